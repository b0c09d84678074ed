"""dlsvc trains and serves the deep-learning course from one job spec each, on Ray."""

__version__ = "0.1.0"
