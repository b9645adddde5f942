"""Messages, outbox and MQTT client. Imports core."""
