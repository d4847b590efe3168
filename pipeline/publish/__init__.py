"""The kept samples of a finished recipe as a dataset folder for others, and its way to the Hub."""
