"""Profiling sessions: jobs in worker processes, with each row stored as soon as it is measured."""
