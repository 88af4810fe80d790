"""The likeliest network whose own T meets T_const, exactly: branch and bound over operations and cuts."""
