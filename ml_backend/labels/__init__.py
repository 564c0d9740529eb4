"""Label Studio's JSON and XML as data: label configs, annotations, predictions. Pure: no network, no files."""
