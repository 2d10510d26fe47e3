"""The ensemble of shards: what may be served, how it is opened, how its models' answers become one.

Letters: S shards that have a model, N images, H and W their height and width, C classes.
"""
