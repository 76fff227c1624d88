"""The skeleton as the solver sees it: a batch of posed frames, and the derivative of its joints.

Only joints are computed here, never vertices. Frames of all clips lie in one flat axis N = clips x frames.
The unknowns of a frame are [transl 3, root 3, rotation vectors 3 x fitted joints], then the betas of its clip:
transl is added, the root rotation is turned from the left in the world about the pelvis, rotation vectors are added to.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import product
from typing import Protocol

import torch
from torch import Tensor

from fitting import so3
from models.landmarks import landmarks
from models.rotations import axis_angle_to_matrix

# the joint in which the bone of each joint ends; of the chest's (9) three bones the neck's is taken
CHILD = {j: j + 3 for j in (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14)} | {j: j + 2 for j in (16, 17, 18, 19)}
CHEST = 9  # carries neck and arms: no one bone shows its turn

PART, PART_GPU = 512, 2**16  # frames whose derivatives fit a core's cache, and 3 GB of a GPU


def frames_at_once(device: torch.device) -> int:
    """How many frames are best worked on together."""
    return PART if device.type == "cpu" else PART_GPU


@dataclass
class State:
    """Parameters of a batch of clips: metres, radians."""

    transl: Tensor  # (clips, frames, 3), SMPL's: added to the rest pelvis
    root: Tensor  # (clips, frames, 3, 3) global orientation
    pose: Tensor  # (clips, frames, fitted, 3) rotation vectors of the fitted joints
    betas: Tensor  # (clips, betas)

    def map(self, function) -> "State":
        return State(**{f.name: function(getattr(self, f.name)) for f in fields(self)})

    def where(self, mask: Tensor, other: "State") -> "State":
        """This state for the clips where mask (clips,) holds, the other elsewhere."""

        def pick(mine: Tensor, theirs: Tensor) -> Tensor:
            return torch.where(mask.view(-1, *[1] * (mine.dim() - 1)), mine, theirs)

        return State(**{f.name: pick(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)})

    def moved(self, step: Tensor, betas_step: Tensor | float) -> "State":
        """The state after a step (clips, frames, 3 + 3 [+ 3 x fitted]) and (clips, betas); differentiable."""
        transl = self.transl + step[..., :3]
        root = axis_angle_to_matrix(step[..., 3:6]) @ self.root
        pose = self.pose
        if step.shape[-1] > 6:
            pose = pose + step[..., 6:].unflatten(-1, (-1, 3))
        return State(transl, root, pose, self.betas + betas_step)


class Bones(Protocol):
    """What `Rig` asks of a BodyModel, or of another tree of joints that has no landmarks."""

    parents: tuple[int, ...]
    rest_template: Tensor  # (J, 3) metres
    rest_dirs: Tensor  # (J, 3, betas)
    num_betas: int


class Rig:
    """The constants of a body's skeleton.

    observed: SMPL indices of the joints that the input holds, in the input's order.
    fitted: "visible" = the joints whose rotation moves an observed joint, or "all" body joints but the root.
    points: names of landmarks that are observed too. Those that the body has become joints behind its own, without a
    rotation, and follow in `observed`.
    """

    def __init__(self, body: Bones, observed: tuple[int, ...], fitted: str = "visible", points: Sequence[str] = ()):
        own = max(observed) + 1  # SMPL's parents come before their children: no later joint matters
        self.points, self.carriers, rest, dirs = landmarks(body, points)
        self.size = size = own + len(self.points)
        observed = (*observed, *range(own, size))
        self.parents = (*body.parents[:own], *self.carriers)
        self.rest_template = torch.cat((body.rest_template[:own], rest))
        self.rest_dirs = torch.cat((body.rest_dirs[:own], dirs))
        self.num_betas = body.num_betas
        device = self.rest_template.device
        ancestors = [self._ancestors(j) for j in range(size)]
        seen = sorted({a for j in observed for a in ancestors[j]} - {0})
        self.fitted = tuple(seen if fitted == "visible" else range(1, 24))
        self.levels = self._levels(device)
        self.order = torch.tensor([j for level in self.levels for j in level[0].tolist()], device=device).argsort()
        self.observed = torch.tensor(observed, device=device)
        self.parent_index = torch.tensor([max(p, 0) for p in self.parents], device=device)
        self.turning = torch.tensor([j for j in self.fitted if j < size], device=device)
        self.bones = self._bones()  # (fitted, 3) directions at rest, zero where no one bone is seen
        chain = torch.zeros(size, size)
        for j in range(size):
            chain[j, [j, *ancestors[j]]] = 1
        self.chain = chain.to(self.rest_template)  # 1 where the column is the row or one of its ancestors
        turned = (0, *self.fitted)
        pairs = [(turned.index(a), j, a) for j in range(size) for a in ancestors[j] if a in turned]
        self.pairs = {  # (position among the turned joints, moved joint, turning joint)
            "rigid": torch.tensor([p for p in pairs if p[0] == 0], device=device).T,
            "all": torch.tensor(pairs, device=device).T,
        }
        rows = torch.arange(3, device=device)
        self.entries = {  # where the three derivatives of each pair stand among (unknowns x joints)
            name: ((3 + 3 * slot[:, None] + rows) * size + moved[:, None]).flatten()
            for name, (slot, moved, _) in self.pairs.items()
        }

    def _bones(self) -> Tensor:
        bones = self.rest_template.new_zeros(len(self.fitted), 3)
        for row, joint in enumerate(self.fitted):
            if joint in CHILD and joint != CHEST:
                bone = self.rest_template[CHILD[joint]] - self.rest_template[joint]
                bones[row] = bone / bone.norm()
        return bones

    def _ancestors(self, joint: int) -> list[int]:
        """Joints whose rotation moves this one, nearest first."""
        out = []
        while (joint := self.parents[joint]) >= 0:
            out.append(joint)
        return out

    def _levels(self, device) -> list[tuple[Tensor, Tensor]]:
        """By depth in the tree: (joints, position of their parents in the level above)."""
        levels, above = [], [0]
        while below := [j for j in range(self.size) if self.parents[j] in above]:
            parents = [above.index(self.parents[j]) for j in below]
            levels.append((torch.tensor(below, device=device), torch.tensor(parents, device=device)))
            above = below
        return [(torch.tensor([0], device=device), torch.tensor([0], device=device)), *levels]

    def posed(self, state: State) -> "Posed":
        return Posed(self, state)


class Posed:
    """A state posed: the first J = rig.size joints and what terms ask of them, each computed once, when asked for."""

    def __init__(self, rig: Rig, state: State, turned: tuple[Tensor, Tensor] | None = None):
        """turned: J_l and exp of the rotation vectors (N, fitted, 3, 3), where they are known already."""
        self.rig, self.state = rig, state
        self.clips, self.frames = state.transl.shape[:2]
        self.count = self.clips * self.frames
        self.transl = state.transl.flatten(0, 1)
        self.pose = state.pose.flatten(0, 1)  # (N, fitted, 3)
        self.betas = state.betas.repeat_interleave(self.frames, 0)  # (N, betas)
        self.left, self.local = turned or self._turn()  # (N, fitted, 3, 3)
        self._jacobians: dict[str, Tensor] = {}
        self._observed: dict[str, Tensor] = {}
        self._parts: dict[int, list[tuple[slice, slice, Posed]]] = {}

    def _turn(self) -> tuple[Tensor, Tensor]:
        left = so3.left_jacobian(self.pose)
        return left, so3.exp(self.pose, left)

    def parts(self, shared: int) -> list[tuple[slice, slice, "Posed"]]:
        """Clips, frames, pose: these frames a cache's load at a time, some whole clips or some frames of one.

        Neighbouring parts of one clip have `shared` frames in common.
        """
        if shared not in self._parts:
            size = frames_at_once(self.pose.device)
            clips, frames = max(1, size // self.frames), min(size, self.frames)
            starts = product(range(0, self.clips, clips), range(0, max(1, self.frames - shared), frames))
            cuts = [(slice(c, c + clips), slice(t, t + frames + shared)) for c, t in starts]
            self._parts[shared] = [(*cut, self._part(*cut) if len(cuts) > 1 else self) for cut in cuts]
        return self._parts[shared]

    def _part(self, clips: slice, frames: slice) -> "Posed":
        state, by_frame = self.state, (self.clips, self.frames)
        times = (x[clips, frames] for x in (state.transl, state.root, state.pose))
        turned = (x.unflatten(0, by_frame)[clips, frames].flatten(0, 1) for x in (self.left, self.local))
        return Posed(self.rig, State(*times, state.betas[clips]), tuple(turned))

    def forget(self) -> None:
        """Drop derivatives, which take more memory than all else, and parts; both are made again when needed."""
        self._jacobians.clear()
        self._observed.clear()
        self._parts.clear()

    def state_by_frame(self) -> State:
        """The same state with every frame a clip of its own, so that each may be moved alone."""
        state = self.state
        return State(*(x.flatten(0, 1)[:, None] for x in (state.transl, state.root, state.pose)), self.betas)

    @cached_property
    def globals(self) -> Tensor:
        """World rotations (N, J, 3, 3); joints that are not fitted turn with their parent."""
        rig = self.rig
        eye = torch.eye(3, dtype=self.pose.dtype, device=self.pose.device)
        local = eye.expand(self.count, rig.size, 3, 3).index_copy(1, rig.turning, self.local[:, : len(rig.turning)])
        level = self.state.root.reshape(-1, 1, 3, 3)
        out = [level]
        for joints, parents in rig.levels[1:]:
            level = level[:, parents] @ local[:, joints]
            out.append(level)
        return torch.cat(out, 1)[:, rig.order]

    @cached_property
    def parent_globals(self) -> Tensor:
        """World rotation of each joint's parent (N, J, 3, 3); identity for the root."""
        eye = torch.eye(3, dtype=self.pose.dtype, device=self.pose.device).expand(self.count, 1, 3, 3)
        return torch.cat((eye, self.globals[:, self.rig.parent_index[1:]]), 1)

    @cached_property
    def axes(self) -> Tensor:
        """World axes, as columns, about which the unknowns of root and fitted joints turn: (N, 1 + turning, 3, 3)."""
        turning = self.rig.turning
        eye = torch.eye(3, dtype=self.pose.dtype, device=self.pose.device).expand(self.count, 1, 3, 3)
        return torch.cat((eye, self.parent_globals[:, turning] @ self.left[:, : len(turning)]), 1)

    @cached_property
    def joints(self) -> Tensor:
        """World joints (N, J, 3) in metres."""
        rig = self.rig
        rest = rig.rest_template + torch.einsum("jck,nk->njc", rig.rest_dirs, self.betas)
        offsets = torch.cat((rest[:, :1], rest[:, 1:] - rest[:, rig.parent_index[1:]]), 1)
        bones = (self.parent_globals @ offsets[..., None])[..., 0]
        return rig.chain @ bones + self.transl[:, None]

    def observed_jacobian(self, unknowns: str) -> Tensor:
        """Derivative of the observed joints, transposed: (N, P, observed, 3)."""
        if unknowns not in self._observed:
            jacobian = self.joint_jacobian(unknowns)
            whole = len(self.rig.observed) == self.rig.size
            self._observed[unknowns] = jacobian if whole else jacobian[:, :, self.rig.observed]
        return self._observed[unknowns]

    def joint_jacobian(self, unknowns: str) -> Tensor:
        """Derivative of the joints by the unknowns, transposed: (N, P, J, 3).

        "rigid": P = 6 (transl, root); "all": P = 6 + 3 x fitted + betas. A joint i turned by an ancestor a about the
        world axis m moves by m x (x_i - x_a); the axes of a rotation vector are the columns of G_parent(a) J_l.
        """
        if unknowns not in self._jacobians:
            rig = self.rig
            slot, moved, turner = rig.pairs[unknowns]
            turned = self._turned(self.joints.index_select(1, moved), slot, turner, unknowns)
            body = 6 + (3 * len(rig.fitted) if unknowns == "all" else 0)
            betas = rig.num_betas if unknowns == "all" else 0
            out = turned.new_zeros(self.count, body + betas, rig.size, 3)
            out[:, :3] = torch.eye(3, dtype=out.dtype, device=out.device)[:, None]
            out.flatten(1, 2).index_copy_(1, rig.entries[unknowns], turned.flatten(1, 2))
            if betas:
                out[:, body:] = self._shape_jacobian()
            self._jacobians[unknowns] = out
        return self._jacobians[unknowns]

    def point_jacobian(self, points: Tensor, like: int, unknowns: str) -> Tensor:
        """Derivative of world points (N, 3) that move with joint `like`'s parent, by all but the betas: (N, P, 3)."""
        slot, _, turner = (part[self.rig.pairs[unknowns][1] == like] for part in self.rig.pairs[unknowns])
        turned = self._turned(points[:, None], slot, turner, unknowns)
        size = self.joint_jacobian(unknowns).shape[1]
        out = turned.new_zeros(self.count, size, 3)
        out[:, :3] = torch.eye(3, dtype=out.dtype, device=out.device)
        rows = (3 + 3 * slot[:, None] + torch.arange(3, device=out.device)).flatten()
        return out.index_copy(1, rows, turned.flatten(1, 2))

    def _turned(self, points: Tensor, slot: Tensor, turner: Tensor, unknowns: str) -> Tensor:
        """Derivative of points (N, pairs, 3) by the three unknowns of the joint that turns each: (N, pairs, 3, 3)."""
        axes = self.axes.mT if unknowns == "all" else self.axes[:, :1].mT
        arms = (points - self.joints.index_select(1, turner))[:, :, None].expand(-1, -1, 3, -1)
        return torch.linalg.cross(axes.index_select(1, slot), arms, dim=-1)

    def _shape_jacobian(self) -> Tensor:
        """Derivative of the joints by the betas (N, betas, J, 3): sum of turned bone changes from the root down."""
        dirs = self.rig.rest_dirs
        bones = torch.cat((dirs[:1], dirs[1:] - dirs[self.rig.parent_index[1:]]))
        change = torch.einsum("njab,jbk->njak", self.parent_globals, bones).flatten(2)  # (N, J, 3 x betas)
        return (self.rig.chain @ change).unflatten(2, (3, -1)).permute(0, 3, 1, 2)
