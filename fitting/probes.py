"""The few points of a body that losses on its mesh look at: soles, some of its skin, spheres inside its limbs.

They are the vertices of a body of their own, which shares the skeleton, so that any pose carries them as it carries the
skin and nothing else of the mesh is computed.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from fitting.metrics import sole_vertices
from fitting.rig import CHILD
from models.body import BodyModel
from models.skeleton import SMPL_PARENTS

PARTS = (0.1, 0.65, 0.95)  # of a sole's length from behind: heel, ball, toe
EVERY = 40  # vertices of the skin, one of which is looked at
MOST = 4  # spheres of a limb
JOINTS = 22  # what fingers carry belongs to the wrist


class Points(NamedTuple):
    """World points, metres: soles (..., 2, 3, 3) left and right by heel, ball, toe; skin (..., V, 3), soles' points
    first; centres of the spheres (..., S, 3)."""

    soles: Tensor
    skin: Tensor
    centres: Tensor


@dataclass(frozen=True)
class Probes:
    """body: whose vertices are the points: six of soles, others of the skin, then spheres, of radii (S,), metres.

    pairs (P, 2): spheres of limbs that are no neighbours and lie apart at rest.
    """

    body: BodyModel
    radii: Tensor
    pairs: Tensor

    def __call__(self, betas: Tensor, thetas: Tensor, transl: Tensor) -> Points:
        """As BodyModel.vertices takes them."""
        points = self.body.vertices(betas, thetas, transl)
        skin, centres = points.split((points.shape[-2] - len(self.radii), len(self.radii)), -2)
        return Points(skin[..., :6, :].unflatten(-2, (2, 3)), skin, centres)

    def to(self, like: Tensor) -> "Probes":
        """On that tensor's device, with its precision."""
        return Probes(self.body.to(like), self.radii.to(like), self.pairs.to(like.device))


def probes_of(body: BodyModel) -> Probes:
    """The points of any body of the SMPL family."""
    soles = [index for sole in sole_vertices(body.weights, body.v_template) for index in sole_parts(body, sole)]
    skin = [*soles, *range(0, len(body.v_template), EVERY)]
    groups, limbs = sphere_groups(body)
    rows = torch.zeros(len(skin) + len(groups), len(body.v_template), dtype=body.v_template.dtype)
    rows[range(len(skin)), skin] = 1
    for row, group in zip(rows[len(skin) :], groups, strict=True):
        row[group] = 1 / len(group)
    posedirs = body.posedirs
    if posedirs is not None:
        posedirs = torch.einsum("nvc,pv->npc", posedirs.unflatten(-1, (-1, 3)), rows).flatten(1)
    probe = body.replaced(
        v_template=rows @ body.v_template,
        shapedirs=torch.einsum("pv,vck->pck", rows, body.shapedirs),
        weights=rows @ body.weights,
        posedirs=posedirs,
    )
    centres = probe.v_template[len(skin) :]
    radii = torch.stack([radius(body, group, limb) for group, limb in zip(groups, limbs, strict=True)])
    return Probes(probe, radii, apart(centres, radii, limbs))


def sole_parts(body: BodyModel, sole: list[int]) -> list[int]:
    """Of a sole's vertices those that lie lowest about heel, ball and toe."""
    points = body.v_template[torch.as_tensor(sole)]
    behind, length = points[:, 2].min(), points[:, 2].max() - points[:, 2].min()
    place = (points[:, 2] - behind) / length
    near = [((place - part).abs() * length + points[:, 1] - points[:, 1].min()).argmin() for part in PARTS]
    return [int(sole[int(index)]) for index in near]


def axis(body: BodyModel, joint: int) -> tuple[Tensor, Tensor]:
    """Where a limb starts at rest and the unit vector along it: to the next joint, without one to its skin's middle."""
    start = body.rest_template[joint]
    end = body.rest_template[CHILD[joint]] if joint in CHILD else body.v_template[carriers(body) == joint].mean(0)
    return start, torch.nn.functional.normalize(end - start, dim=0)


def carriers(body: BodyModel) -> Tensor:
    """The joint (V,) below JOINTS that carries each vertex most."""
    parents = list(range(JOINTS)) + [0] * (body.num_joints - JOINTS)
    for joint in range(JOINTS, body.num_joints):
        parents[joint] = parents[body.parents[joint]]
    return torch.tensor(parents, device=body.weights.device)[body.weights.argmax(1)]


def sphere_groups(body: BodyModel) -> tuple[list[Tensor], list[int]]:
    """Vertices around each sphere, and the joint that carries it: each limb cut across into pieces as long as thick."""
    owner, groups, limbs = carriers(body), [], []
    for joint in range(JOINTS):
        mine = (owner == joint).nonzero()[:, 0]
        if not len(mine):
            continue
        start, along = axis(body, joint)
        place = (body.v_template[mine] - start) @ along
        length = float(place.max() - place.min())
        count = max(1, min(MOST, round(length / (2 * float(radius(body, mine, joint))))))
        piece = ((place - place.min()) / length * count).long().clamp_max(count - 1)
        found = [mine[piece == number] for number in range(count)]
        groups += [group for group in found if len(group)]
        limbs += [joint] * sum(bool(len(group)) for group in found)
    return groups, limbs


def radius(body: BodyModel, group: Tensor, limb: int) -> Tensor:
    """Mean distance of a piece's vertices from the line through their middle along the limb."""
    _, along = axis(body, limb)
    arms = body.v_template[group] - body.v_template[group].mean(0)
    return (arms - (arms @ along)[:, None] * along).norm(dim=1).mean()


def apart(centres: Tensor, radii: Tensor, limbs: list[int]) -> Tensor:
    """Pairs (P, 2) of spheres whose limbs are neither one nor neighbours, and that do not touch at rest."""
    pairs = []
    for one, other in combinations(range(len(limbs)), 2):
        near = limbs[one] == limbs[other] or limbs[one] == SMPL_PARENTS[limbs[other]]
        near |= limbs[other] == SMPL_PARENTS[limbs[one]]
        if not near and (centres[one] - centres[other]).norm() > radii[one] + radii[other]:
            pairs.append((one, other))
    return torch.tensor(pairs, device=centres.device)
