"""Tuning: sequences, schedule, losses, the LightningModule, adapters and checkpoints."""
