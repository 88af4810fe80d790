"""The worked network of nine layers on four devices, in ms and bytes."""

# Layer 0 is the raw input, then nine layers (float32 bytes out; ms on UE, SBS, MBS, cloud).
OUT_BYTES = [150528, 1605632, 802816, 301056, 100352, 50176, 75264, 31360, 62720, 4000]
TAU_MS = [
    [12.4, 0.42, 0.71, 0.21],
    [31.7, 0.95, 1.52, 0.44],
    [38.2, 1.31, 2.08, 0.58],
    [27.5, 1.18, 1.83, 0.52],
    [30.6, 1.44, 2.21, 0.63],
    [41.3, 1.86, 2.94, 0.79],
    [22.8, 1.07, 1.65, 0.46],
    [17.9, 0.83, 1.27, 0.37],
    [9.6, 0.35, 0.52, 0.17],
]
RATE_MBPS = [25, 50, 200]
