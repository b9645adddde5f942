"""The main job as a show: broker, gateway, utility and meters on one clock, and its check."""
