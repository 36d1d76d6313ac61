#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# One run of everything that needs a GPU, on a machine with one, nvcc, Meson and PyTorch:
#     benchmarks/on_device.sh FOLDER [ARCH]
# builds libbnb_cuda for ARCH (90a), runs the conformance suite on the device, then its quick form under compute-sanitizer, then
# the benchmarks. Logs and device.json go to FOLDER, which is worth a commit: the JSON belongs to benchmarks/results.
set -uo pipefail
cd "$(dirname "$0")/.."
folder=$1 arch=${2:-90a}
mkdir -p "$folder"
failed=0
step() {
  local name=$1 limit=$2
  shift 2
  printf '== %s\n' "$name"
  timeout "$limit" "$@" >"$folder/$name.log" 2>&1 || { printf '%s failed (%d)\n' "$name" $?; failed=1; }
  tail -n 3 "$folder/$name.log"
}

build=build-device
[ -f "$build/build.ninja" ] || meson setup "$build" -Dcuda=enabled -Darchs_cuda="$arch" -Dtests=enabled -Dcpu_isas=auto >/dev/null
step build 300 ninja -C "$build" conformance_bnb_cuda
suite=$build/tests/conformance/conformance_bnb_cuda
step conformance 240 "$suite" --target 'cuda:0'
for tool in memcheck racecheck synccheck initcheck; do
  step "$tool" 60 compute-sanitizer --tool "$tool" --error-exitcode 9 "$suite" --quick --target 'cuda:0' --filter 'blockwise/*'
done
step package 200 python3 -m pip install --no-build-isolation --no-deps --target "$folder/package" . \
  -Csetup-args=-Dcuda=enabled -Csetup-args=-Darchs_cuda="$arch"
PYTHONPATH=$folder/package step benchmark 420 python3 benchmarks/device.py --name "$folder/device"
rm -rf "$folder/package"
exit $failed
