"""Judges an ensemble: functions from arrays to numbers, and the reports that hold them. No model and no path in sight.

Letters: S shards that have a model, N samples, C classes. A number that the arrays do not support
raises Uncomputable with the reason; in a report it is then Absent.
"""
