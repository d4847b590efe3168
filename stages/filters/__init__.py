"""Stages that only judge: each reads narrow columns of samples and gives one verdict a row."""
