"""Backends: parallel texts that turn the same draws into the same pixels."""
