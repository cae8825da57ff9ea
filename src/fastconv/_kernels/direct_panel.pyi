tap_channels: int
