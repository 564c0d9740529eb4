"""The edge of rankloop: HTTP, Label Studio, MLflow, DBOS and settings around the learning core in `training`."""
