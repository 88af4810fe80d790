"""The latency regressor of one block: features, roofline, residual models, model selection, intervals."""
