"""From a recipe and what lies at its locations to steps with an identity and a folder."""
