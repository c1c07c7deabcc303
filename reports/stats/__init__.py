"""Pure estimates: functions of samples, each with its interval."""
