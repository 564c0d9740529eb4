"""Each stage of training on files: hold a folder, load what is needed, run, report."""
