"""Quality checks of latency tables, before an estimator is fitted to them."""
