"""05: one live frame in, one pose out. A joint that the tracker lost is NaN.

python experiments/examples/05_stream_live_frames.py
"""

import time

import numpy as np

from fitting import Stream
from models.keyed import walk_joints

stream = Stream(fps=20)  # half a second; once, before the person comes in
milliseconds = []
for number, joints in enumerate(walk_joints()):  # any source of (22, 3) metres, y up, SMPL's order
    if 40 <= number < 50:
        joints[21] = np.nan  # the right wrist is hidden for half a second
    start = time.perf_counter()
    pose = stream(joints)
    milliseconds.append(1000 * (time.perf_counter() - start))
    if number % 20 == 0 or number == 45:
        hidden = "" if pose.seen.all() else f"  {int((~pose.seen).sum())} joint not seen"
        print(f"frame {number:3}  error {1000 * pose.error:5.2f} mm  first beta {float(pose.betas[0]):+.2f}{hidden}")
print(f"a call took {np.median(milliseconds[1:]):.1f} ms (median); 50 ms are between two frames")
