"""Providers, which execute tasks, and the calls that those elsewhere are paid for."""
