"""What a deployment does at this moment: asked of its replicas, and as it reads."""
