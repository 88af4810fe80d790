"""The regressor behind U(.): features, roofline, residual models, their choice, their intervals."""
