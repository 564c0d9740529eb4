-- One database for each of the three that keep a truth here.
CREATE DATABASE label_studio;
CREATE DATABASE rankloop_jobs;
CREATE DATABASE rankloop_mlflow;
