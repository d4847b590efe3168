"""Servers: which may be asked, how one file is fetched, how many are."""
