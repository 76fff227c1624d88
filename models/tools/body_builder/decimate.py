"""Decimation of a closed triangle mesh to an exact number of vertices, by half-edge collapses with quadric errors.

Garland and Heckbert (1997), with one change: a vertex moves onto a neighbour, never to a new place, so that whatever is
known at the vertices that remain (weights, shape directions) is simply indexed. Left and right are collapsed together.
"""

import heapq

import numpy as np

LENGTH_WEIGHT = 1e-3  # orders flat regions, whose quadric error is zero, by size
FEATURE_WEIGHT = 0.02  # keeps detail where skinning weights change: elbows, knees, fingers
MAX_TURN_COSINE = 0.3  # a triangle's normal may turn by about 73 degrees at most
MIN_FATNESS = 0.08  # twice the area over the longest edge squared; thinner triangles are slivers


def decimate(
    points: np.ndarray, triangles: np.ndarray, count: int, features: np.ndarray, mirror: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Reduce a closed mesh to exactly `count` vertices.

    points (V, 3); triangles (F, 3); features (V, k) whose differences resist collapsing; mirror (V,) each vertex's
    partner (its own on the midline; np.arange(V) where there is no symmetry). Returns the kept vertices (count,) and
    triangles over them. Raises ValueError where no sound collapse is left.
    """
    mesh = Mesh(points, triangles, features, mirror)
    heap = [entry for v in range(len(points)) if (entry := mesh.cheapest(v))]
    heapq.heapify(heap)
    left = len(points)
    while left > count:
        if not heap:
            raise ValueError(f"stuck at {left} vertices, {count} wanted: no collapse left that keeps the mesh sound")
        cost, v, u, stamp = heapq.heappop(heap)
        pair = mirror[v] != v
        if stamp != mesh.stamps[v] or (pair and left - 2 < count):  # the last odd one is taken from the midline
            continue
        u = mesh.sound_neighbour(v, u, cost)
        if u is None:
            continue
        touched = mesh.collapse(v, u)
        left -= 1
        if pair and mesh.is_sound(mirror[v], mirror[u]):
            touched |= mesh.collapse(mirror[v], mirror[u])
            left -= 1
        for w in touched:
            if entry := mesh.cheapest(w):
                heapq.heappush(heap, entry)
    return mesh.result()


class Mesh:
    """The mesh while it shrinks. Plain lists and tuples: a step touches a dozen numbers, where numpy would be slower.

    stamps: how often a vertex's surroundings changed (-1 once it is gone): marks what lies in the heap as outdated.
    """

    def __init__(self, points: np.ndarray, triangles: np.ndarray, features: np.ndarray, mirror: np.ndarray):
        self.points = points.tolist()
        self.features = features
        self.mirror = mirror.tolist()
        self.triangles = dict(enumerate(map(tuple, triangles.tolist())))
        self.around: list[set[int]] = [set() for _ in self.points]
        for i, triangle in self.triangles.items():
            for v in triangle:
                self.around[v].add(i)
        self.quadrics, self.areas = quadrics(points, triangles)
        self.stamps = [0] * len(self.points)

    def neighbours(self, v: int) -> set[int]:
        """Vertices that share an edge with v."""
        return {w for i in self.around[v] for w in self.triangles[i]} - {v}

    def allowed(self, v: int, u: int) -> bool:
        """The midline stays on the midline, and no vertex moves onto its own partner."""
        if self.mirror[v] == v:
            return self.mirror[u] == u
        return self.mirror[v] != u

    def cost(self, v: int, u: int) -> float:
        """Error made by moving v onto u: squared distance from the planes around both, length, features."""
        x, y, z = self.points[u]
        both = zip(self.quadrics[v], self.quadrics[u], strict=True)
        xx, xy, xz, xw, yy, yz, yw, zz, zw, ww = (a + b for a, b in both)
        error = xx * x * x + 2 * xy * x * y + 2 * xz * x * z + 2 * xw * x + yy * y * y + 2 * yz * y * z + 2 * yw * y
        error += zz * z * z + 2 * zw * z + ww
        px, py, pz = self.points[v]
        size = ((px - x) ** 2 + (py - y) ** 2 + (pz - z) ** 2) * (self.areas[v] + self.areas[u])
        change = self.features[v] - self.features[u]
        return max(error, 0.0) + (LENGTH_WEIGHT + FEATURE_WEIGHT * float(change @ change)) * size

    def cheapest(self, v: int) -> tuple[float, int, int, int] | None:
        """Heap entry (cost, v, u, stamp) of the cheapest allowed collapse of v."""
        choices = [(self.cost(v, u), v, u, self.stamps[v]) for u in self.neighbours(v) if self.allowed(v, u)]
        return min(choices, default=None)

    def sound_neighbour(self, v: int, u: int, cost: float) -> int | None:
        """u if v may move onto it, else the cheapest sound one of four others, at less than four times the cost."""
        if self.is_sound(v, u):
            return u
        others = sorted((self.cost(v, w), w) for w in self.neighbours(v) if w != u and self.allowed(v, w))
        return next((w for c, w in others[:4] if c < 4 * cost + 1e-12 and self.is_sound(v, w)), None)

    def is_sound(self, v: int, u: int) -> bool:
        """Whether the mesh stays a closed manifold without folds or slivers when v moves onto u."""
        near_v, near_u = self.neighbours(v), self.neighbours(u)
        shared = near_v & near_u
        if u not in near_v or len(shared) != 2 or len(near_v | near_u) < 5:  # the link condition
            return False
        if any(len(self.neighbours(w)) <= 3 for w in shared):
            return False
        return all(self.stays_fair(self.triangles[i], v, u) for i in self.around[v] if u not in self.triangles[i])

    def stays_fair(self, triangle: tuple[int, int, int], v: int, u: int) -> bool:
        """Whether a triangle at v keeps its side and stays fat enough when v moves onto u."""
        i = triangle.index(v)
        b, c = self.points[triangle[i - 2]], self.points[triangle[i - 1]]
        before, after = normal(self.points[v], b, c), normal(self.points[u], b, c)
        area = dot(after, after) ** 0.5
        if dot(before, after) < MAX_TURN_COSINE * dot(before, before) ** 0.5 * area:
            return False
        edges = (difference(c, b), difference(b, self.points[u]), difference(c, self.points[u]))
        return area >= MIN_FATNESS * max(dot(edge, edge) for edge in edges)

    def collapse(self, v: int, u: int) -> set[int]:
        """Move v onto u; returns the vertices whose surroundings changed."""
        touched = self.neighbours(v)
        for i in self.around[v]:
            triangle = self.triangles[i]
            if u in triangle:
                for w in set(triangle) - {v}:
                    self.around[w].discard(i)
                del self.triangles[i]
            else:
                self.triangles[i] = tuple(u if w == v else w for w in triangle)
                self.around[u].add(i)
        self.around[v] = set()
        self.stamps[v] = -1
        self.quadrics[u] = tuple(a + b for a, b in zip(self.quadrics[u], self.quadrics[v], strict=True))
        self.areas[u] += self.areas[v]
        touched |= self.neighbours(u)
        for w in touched:
            self.stamps[w] += 1
        return touched

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Kept vertices and the triangles over them, both in their old order."""
        kept = np.array([v for v, stamp in enumerate(self.stamps) if stamp >= 0])
        return kept, np.searchsorted(kept, [self.triangles[i] for i in sorted(self.triangles)])


def quadrics(points: np.ndarray, triangles: np.ndarray) -> tuple[list[tuple[float, ...]], list[float]]:
    """Of each vertex: the ten entries of its area-weighted plane quadric, and a third of the area around it."""
    a, b, c = points[triangles].transpose(1, 0, 2)
    normals = np.cross(b - a, c - a)
    areas = np.linalg.norm(normals, axis=1) / 2
    normals /= np.maximum(2 * areas, 1e-12)[:, None]
    planes = np.column_stack([normals, -(normals * a).sum(1)])  # (F, 4): n, -n.a
    rows, columns = np.triu_indices(4)
    faces = planes[:, rows] * planes[:, columns] * areas[:, None]
    total, around = np.zeros((len(points), 10)), np.zeros(len(points))
    for corner in triangles.T:
        np.add.at(total, corner, faces)
        np.add.at(around, corner, areas / 3)
    return list(map(tuple, total.tolist())), around.tolist()


def difference(a: list[float], b: list[float]) -> tuple[float, float, float]:
    """a - b."""
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def dot(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Scalar product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def normal(a: list[float], b: list[float], c: list[float]) -> tuple[float, float, float]:
    """Normal of a triangle, as long as twice its area."""
    (ux, uy, uz), (wx, wy, wz) = difference(b, a), difference(c, a)
    return uy * wz - uz * wy, uz * wx - ux * wz, ux * wy - uy * wx
