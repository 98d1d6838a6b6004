"""Monitoring: what live inputs and predictions look like beside those the model was trained on.

What belongs here: sketches, drift statistics and reports. What never does: acting on a report (pipelines and retraining
policies do) and collecting from a request path (the runtime's tap does; it only imports the sketches from here).
"""
