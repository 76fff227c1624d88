// The page's program: one clip at a time from the GLB inside the page, its joints, its curves, its numbers.
// `npm install && npm run build` (package.json) bundles it with three.js into viewer.bundle.js.

import * as THREE from "three";
import { OrbitControls } from "three/addons/controls/OrbitControls.js";
import { GLTFLoader } from "three/addons/loaders/GLTFLoader.js";

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const COLOURS = { joints: 0xd9480f, input: 0x2b8a3e };

// base64 -> ArrayBuffer
function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
}

// ---- the stage: camera, light, floor

function makeStage(canvas) {
  const renderer = new THREE.WebGLRenderer({ canvas, antialias: true });
  renderer.shadowMap.enabled = true;
  const scene = new THREE.Scene();
  scene.background = new THREE.Color(0xf1f3f7);
  const camera = new THREE.PerspectiveCamera(35, 1, 0.05, 200);
  const controls = new OrbitControls(camera, canvas);
  controls.enableDamping = true;
  const sun = new THREE.DirectionalLight(0xffffff, 2.4);
  sun.castShadow = true;
  sun.shadow.mapSize.set(1024, 1024);
  sun.shadow.radius = 6;
  for (const [side, at] of Object.entries({ left: -2, right: 2, top: 2, bottom: -2 })) sun.shadow.camera[side] = at;
  const floor = new THREE.Mesh(new THREE.PlaneGeometry(100, 100), new THREE.MeshLambertMaterial({ map: chequer() }));
  floor.rotation.x = -Math.PI / 2;
  floor.receiveShadow = true;
  scene.fog = new THREE.Fog(scene.background, 8, 25);
  scene.add(new THREE.HemisphereLight(0xffffff, 0xb4bccb, 1.3), sun, sun.target, floor);
  return { renderer, scene, camera, controls, sun, floor };
}

// Squares of half a metre.
function chequer() {
  const texels = [232, 214, 214, 232].flatMap((grey) => [grey, grey + 3, grey + 8, 255]);
  const texture = new THREE.DataTexture(new Uint8Array(texels), 2, 2);
  texture.colorSpace = THREE.SRGBColorSpace;
  texture.wrapS = texture.wrapT = THREE.RepeatWrapping;
  texture.repeat.set(100, 100);
  texture.needsUpdate = true;
  return texture;
}

// Put floor and light where the clip stands, the camera in front of its first frame.
function prepareStage(stage, clip) {
  stage.floor.position.y = clip.floor;
  const place = clip.pelvis(0);
  stage.controls.target.copy(place);
  stage.camera.position.copy(place).add(new THREE.Vector3(2.2, 0.9, 4.2));
  lightAt(stage, place);
}

function lightAt(stage, place) {
  stage.sun.target.position.copy(place);
  stage.sun.position.copy(place).add(new THREE.Vector3(1.5, 4, 2));
}

// ---- joints as a stick figure

class Sticks {
  constructor(array, parents, colour, radius) {
    this.array = array;
    this.count = parents.length;
    this.parents = parents;
    const material = new THREE.MeshBasicMaterial({ color: colour, depthTest: false, transparent: true, opacity: 0.9 });
    this.balls = new THREE.InstancedMesh(new THREE.SphereGeometry(radius, 10, 8), material, this.count);
    this.lines = new THREE.LineSegments(new THREE.BufferGeometry(), new THREE.LineBasicMaterial({ color: colour, depthTest: false }));
    const ends = 2 * parents.filter((parent) => parent >= 0).length;
    this.lines.geometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array(3 * ends), 3));
    this.balls.frustumCulled = this.lines.frustumCulled = false;
    this.balls.renderOrder = this.lines.renderOrder = 2;
    this.group = new THREE.Group();
    this.group.add(this.balls, this.lines);
  }

  at(frame, joint) {
    return new THREE.Vector3().fromArray(this.array, 3 * (frame * this.count + joint));
  }

  show(frame) {
    const ends = this.lines.geometry.attributes.position;
    let end = 0;
    this.parents.forEach((parent, joint) => {
      const place = this.at(frame, joint);
      const seen = Number.isFinite(place.x);
      this.balls.setMatrixAt(joint, seen ? new THREE.Matrix4().setPosition(place) : new THREE.Matrix4().makeScale(0, 0, 0));
      if (parent < 0) return;
      const above = this.at(frame, parent);
      const bone = seen && Number.isFinite(above.x);
      ends.setXYZ(end++, ...(bone ? above : new THREE.Vector3()));
      ends.setXYZ(end++, ...(bone ? place : new THREE.Vector3()));
    });
    this.balls.instanceMatrix.needsUpdate = ends.needsUpdate = true;
  }
}

// ---- one clip: mesh with its animation, joints of the fit and of the input

class Clip {
  static async load(entry) {
    const file = await new GLTFLoader().parseAsync(bytes(entry.glb), "");
    return new Clip(entry, file);
  }

  constructor(entry, file) {
    this.entry = entry;
    this.scene = file.scene;
    this.scene.traverse((part) => {
      if (!part.isSkinnedMesh) return;
      this.mesh = part;
      part.frustumCulled = false;
      part.castShadow = true;
    });
    this.mixer = new THREE.AnimationMixer(this.scene);
    this.action = this.mixer.clipAction(file.animations[0]);
    this.action.setLoop(THREE.LoopOnce);
    this.action.clampWhenFinished = true;
    this.action.play();
    this.joints = new Sticks(new Float32Array(bytes(entry.joints)), entry.parents, COLOURS.joints, 0.02);
    this.input = entry.input && new Sticks(new Float32Array(bytes(entry.input)), entry.input_parents, COLOURS.input, 0.016);
    this.group = new THREE.Group();
    this.group.add(this.scene, this.joints.group);
    if (this.input) this.group.add(this.input.group);
    this.floor = entry.floor;
  }

  pelvis(frame) {
    return this.joints.at(Math.round(frame), 0);
  }

  show(frame) {
    this.action.paused = false; // three.js pauses an action for good where it has come to its end
    this.mixer.setTime(Math.min(frame / this.entry.fps, this.action.getClip().duration));
    this.scene.updateMatrixWorld(true);
    this.joints.show(Math.round(frame));
    this.input?.show(Math.round(frame));
  }

  // World positions of all vertices, (V x 3) metres: for tests, and for whoever opens the console.
  vertices() {
    const out = [];
    const vertex = new THREE.Vector3();
    for (let i = 0; i < this.mesh.geometry.attributes.position.count; i++) {
      this.mesh.getVertexPosition(i, vertex).applyMatrix4(this.mesh.matrixWorld);
      out.push(vertex.x, vertex.y, vertex.z);
    }
    return out;
  }
}

// ---- numbers and curves beside the stage

function showNumbers(entry) {
  $("caption").textContent = entry.text || entry.name;
  $("status").textContent = `${entry.status}. ${entry.message}`;
  $("numbers").replaceChildren(
    ...entry.numbers.map(([name, before, after]) => {
      const row = document.createElement("tr");
      for (const value of [name, before, after]) row.insertCell().textContent = value ?? "";
      return row;
    }),
  );
  $("curves").innerHTML = entry.curves.map(curve).join("");
}

// Text for use inside markup: names of stages and terms come from a preset, which may be anybody's.
function escaped(text) {
  return text.replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);
}

// An SVG of the energy of each term over the iterations of a stage, on a logarithmic scale.
function curve({ stage, terms }) {
  const values = Object.values(terms).flat().filter((value) => value > 0);
  const [low, high] = [Math.log10(Math.min(...values)), Math.log10(Math.max(...values))];
  const width = Math.max(...Object.values(terms).map((term) => term.length)) - 1 || 1;
  const point = (value, i) => `${(280 * i) / width},${100 - (96 * (Math.log10(value) - low)) / (high - low || 1)}`;
  const names = Object.keys(terms);
  const hue = (i) => `hsl(${(360 * i) / names.length} 60% 42%)`;
  const lines = names.map((name, i) => {
    const points = terms[name].map((value, j) => (value > 0 ? point(value, j) : "")).filter(Boolean);
    return `<polyline fill="none" stroke="${hue(i)}" points="${points.join(" ")}"/>`;
  });
  const legend = names.map((name, i) => `<span style="color:${hue(i)}">${escaped(name)}</span>`).join(" ");
  return `<figure><figcaption>${escaped(stage)}: ${legend}</figcaption><svg viewBox="0 0 280 104">${lines.join("")}</svg></figure>`;
}

// ---- playing

class Player {
  constructor(stage) {
    this.stage = stage;
    this.frame = 0;
    this.playing = true;
    this.loaded = new Map();
  }

  async open(index) {
    if (!this.loaded.has(index)) this.loaded.set(index, await Clip.load(data.clips[index]));
    if (this.clip) this.stage.scene.remove(this.clip.group);
    this.clip = this.loaded.get(index);
    this.stage.scene.add(this.clip.group);
    $("scrub").max = this.clip.entry.frames - 1;
    $("clips").value = index;
    $("glb").onclick = () => download(this.clip.entry);
    showNumbers(this.clip.entry);
    this.place = this.clip.pelvis(0);
    prepareStage(this.stage, this.clip);
    this.seek(0);
  }

  seek(frame) {
    this.frame = Math.max(0, Math.min(frame, this.clip.entry.frames - 1));
    this.clip.scene.visible = $("body").checked;
    this.clip.joints.group.visible = $("skeleton").checked;
    if (this.clip.input) this.clip.input.group.visible = $("input").checked;
    this.clip.show(this.frame);
    this.follow();
    $("scrub").value = this.frame;
    $("time").textContent = `${(this.frame / this.clip.entry.fps).toFixed(2)} s  frame ${Math.round(this.frame)}`;
  }

  // The camera goes along with the pelvis over the floor.
  follow() {
    const place = this.clip.pelvis(this.frame);
    const gone = place.clone().sub(this.place).setY(0);
    this.place = place;
    this.stage.controls.target.add(gone);
    this.stage.camera.position.add(gone);
    lightAt(this.stage, place);
  }

  play(on) {
    this.playing = on;
    $("play").textContent = on ? "Pause" : "Play";
  }

  tick(seconds) {
    if (this.playing && this.clip) {
      const last = this.clip.entry.frames - 1;
      const next = this.frame + seconds * this.clip.entry.fps * Number($("speed").value);
      this.seek(next > last ? 0 : next);
    }
    const { renderer, scene, camera, controls } = this.stage;
    fit(renderer, camera);
    controls.update();
    renderer.render(scene, camera);
  }
}

function fit(renderer, camera) {
  const canvas = renderer.domElement;
  const { clientWidth, clientHeight } = canvas;
  const ratio = Math.min(window.devicePixelRatio, 2);
  if (canvas.width === Math.floor(clientWidth * ratio) && canvas.height === Math.floor(clientHeight * ratio)) return;
  renderer.setPixelRatio(ratio);
  renderer.setSize(clientWidth, clientHeight, false);
  camera.aspect = clientWidth / clientHeight;
  camera.updateProjectionMatrix();
}

function download(entry) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes(entry.glb)], { type: "model/gltf-binary" }));
  link.download = `${entry.name.replaceAll("/", "_")}.glb`;
  link.click();
  URL.revokeObjectURL(link.href);
}

async function start() {
  const player = new Player(makeStage($("stage")));
  data.clips.forEach((entry, index) => {
    const error = entry.error === null ? "" : `, ${entry.error.toFixed(1)} mm`;
    $("clips").add(new Option(`${entry.name}${error}, ${entry.status}: ${entry.text}`, index));
  });
  for (const { name, status, message } of data.others) {
    const option = new Option(`${name}, ${status}: ${message}`);
    option.disabled = true;
    $("clips").add(option);
  }
  $("clips").onchange = () => player.open(Number($("clips").value));
  $("play").onclick = () => player.play(!player.playing);
  $("scrub").oninput = () => {
    player.play(false);
    player.seek(Number($("scrub").value));
  };
  for (const name of ["body", "skeleton", "input"]) $(name).onchange = () => player.seek(player.frame);
  window.addEventListener("keydown", (event) => {
    if (event.key === " " && event.target === document.body) player.play(!player.playing);
  });
  window.thetafit = player;
  if (data.clips.length) await player.open(0);
  let before = performance.now();
  player.stage.renderer.setAnimationLoop((now) => {
    player.tick(Math.max(0, now - before) / 1000);
    before = now;
  });
  player.ready = true;
}

start().catch((error) => {
  $("status").textContent = `This page needs a browser with WebGL. ${error}`;
  throw error;
});
