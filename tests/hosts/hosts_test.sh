#!/usr/bin/env bash
# hosts_test.sh CASE HEADRACE TORCHRUN WORK: runs over network namespaces that stand for hosts, each with a network, a name,
# processes and shared memory of its own; the folder WORK is seen by all. Exit code 77: this machine does not let us.
set -uo pipefail

case_name=$1 headrace=$2 torchrun=$3 work=$4
prefix=hr$((BASHPID % 100000))
net=10.$((BASHPID % 200 + 20)).$((BASHPID / 200 % 250))

skip() {
  echo "skipped: $*"
  exit 77
}
fail() {
  echo "FAILED: $*"
  tail -n 30 "$work"/*.log
  exit 1
}

((EUID == 0)) || skip "network namespaces are for root"
command -v ip >/dev/null || skip "there is no ip (package iproute2)"
ip link add "${prefix}b" type bridge 2>/dev/null || skip "this machine makes no bridges"

hosts=0
clean() {
  for i in $(seq 1 $hosts); do ip netns del "${prefix}h$i"; done
  ip link del "${prefix}b"
}
trap clean EXIT

# make_hosts N: h1 … hN, on one network.
make_hosts() {
  ip link set "${prefix}b" up
  rm -rf "$work" && mkdir -p "$work"
  { echo "127.0.0.1 localhost" && echo "::1 localhost"; } >"$work/hosts"
  for i in $(seq 1 "$1"); do
    ip netns add "${prefix}h$i" || skip "this machine makes no network namespaces"
    hosts=$i
    ip link add "${prefix}v$i" type veth peer name eth0 netns "${prefix}h$i"
    ip link set "${prefix}v$i" master "${prefix}b" up
    ip -n "${prefix}h$i" addr add "$net.$i/24" dev eth0
    ip -n "${prefix}h$i" addr add "fd00:$((BASHPID % 9999))::$i/64" dev eth0 nodad
    ip -n "${prefix}h$i" link set eth0 up
    ip -n "${prefix}h$i" link set lo up
    echo "$net.$i h$i" >>"$work/hosts"
  done
}

# on I COMMAND…: on host hI.
on() {
  local i=$1
  shift
  ip netns exec "${prefix}h$i" unshare --uts --mount --ipc --pid --fork --mount-proc --kill-child \
    bash -c 'hostname "h$0"; mount -t tmpfs none /dev/shm; mount --bind "$1" /etc/hosts; shift; exec "$@"' \
    "$i" "$work/hosts" "$@"
}

configure() {
  for _ in $(seq 400); do echo "the quick brown fox jumps over the lazy dog; "; done >"$work/text.txt"
  cat >"$work/run.toml" <<TOML
[model]
layers = 4
width = 16
heads = 2
context = 16
vocabulary = 256
dropout = 0.1
[data]
text = ["$work/text.txt"]
cache = "$work/cache"
[train]
steps = ${steps:-20}
microbatch = 1
microbatches = 4
[pipeline]
ranks = $hosts
start_limit = 60
step_limit = 4
[checkpoint]
every = 10
TOML
}

# start_ranks ARGS…: a rank on each host, without a launcher; host hI's output and exit code in hI.log.
start_ranks() {
  for i in $(seq 1 "$hosts"); do
    (
      on "$i" env OMP_NUM_THREADS=1 RANK=$((i - 1)) WORLD_SIZE="$hosts" LOCAL_RANK=0 LOCAL_WORLD_SIZE=1 \
        MASTER_ADDR="${address:-h1}" MASTER_PORT=29511 "$headrace" train "$work/run.toml" "$@" >"$work/h$i.log" 2>&1
      echo "exit $?" >>"$work/h$i.log"
    ) &
  done
}

# Losses and norms of a run's steps, without the times.
results() { sed 's/,"seconds":[^,}]*//' "$1/metrics.jsonl"; }

same_as_one_machine() {
  (cd "$work" && "$headrace" train run.toml --run-dir "$work/alone" >"$work/alone.log" 2>&1) || fail "the run of one machine"
  results "$1" | cmp - <(results "$work/alone") || fail "other losses than on one machine"
  "$headrace" checkpoint diff "$1/checkpoints/step-$(printf %08d "${steps:-20}")" \
    "$work/alone/checkpoints/step-$(printf %08d "${steps:-20}")" | grep -q "same" || fail "other weights than on one machine"
}

# within SECONDS COMMAND…: until it is so.
within() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.2
  done
}

case $case_name in
  two | four)
    make_hosts $([[ $case_name == two ]] && echo 2 || echo 4)
    configure
    start_ranks --run-dir "$work/run"
    wait
    same_as_one_machine "$work/run"
    ;;
  ipv6)
    make_hosts 2
    configure
    address=fd00:$((BASHPID % 9999))::1
    start_ranks --run-dir "$work/run"
    wait
    same_as_one_machine "$work/run"
    ;;
  vanishes)
    # Host h2 is cut off in the middle of the run: both ends say so in time, and the run goes on from its checkpoint.
    steps=100000
    make_hosts 2
    configure
    start_ranks --run-dir "$work/run"
    within 60 grep -qs "checkpoint after step" "$work/h1.log" || fail "the run did not start"
    ip link set "${prefix}v2" down
    within 30 grep -q "^exit" "$work/h1.log" || fail "h1 goes on without h2"
    within 30 grep -q "^exit" "$work/h2.log" || fail "h2 goes on without h1"
    wait
    grep -q "error: rank 1 (host h2) .* step [0-9]*; it does not answer" "$work/h1.log" || fail "h1 does not name rank, host and step"
    grep -q "error: rank 0 (host h1) does not answer" "$work/h2.log" || fail "h2 does not name rank and host"
    grep -q "^exit 1" "$work/h1.log" && grep -q "^exit 1" "$work/h2.log" || fail "other exit codes"
    ip link set "${prefix}v2" up
    newest=$(ls -d "$work"/run/checkpoints/step-???????? | tail -n 1)
    "$headrace" checkpoint verify "$newest" >"$work/verify.log" 2>&1 || fail "the newest checkpoint is not whole"
    steps=$((10#${newest##*-} + 20))
    configure
    for i in 1 2; do cp "$work/h$i.log" "$work/before$i.log"; done
    start_resumed() {
      for i in 1 2; do
        (
          on "$i" env OMP_NUM_THREADS=1 RANK=$((i - 1)) WORLD_SIZE=2 LOCAL_RANK=0 LOCAL_WORLD_SIZE=1 MASTER_ADDR=h1 \
            MASTER_PORT=29511 "$headrace" train --resume "$work/run" --steps $steps >"$work/h$i.log" 2>&1
        ) &
      done
    }
    start_resumed
    wait
    grep -q "step *$steps/$steps" "$work/h1.log" || fail "the run does not go on"
    ;;
  torchrun)
    # Two nodes, and rank 1 is killed: torchrun starts both anew, and the run is as if nothing had happened.
    [[ -x $torchrun ]] || skip "there is no torchrun"
    steps=600
    make_hosts 2
    configure
    cat >"$work/rank.sh" <<SH
#!/bin/sh
if [ "\$RANK" = 1 ] && [ "\$TORCHELASTIC_RESTART_COUNT" = 0 ]; then
  ( until ls "$work/run/checkpoints" 2>/dev/null | grep -qx "step-[0-9]*"; do sleep 0.02; done; kill -9 \$\$ ) &
fi
exec "$headrace" train "$work/run.toml" --run-dir "$work/run"
SH
    chmod +x "$work/rank.sh"
    for i in 1 2; do
      (
        on "$i" env OMP_NUM_THREADS=1 timeout -k 5 100 "$torchrun" --no-python --nnodes=2 --nproc-per-node=1 --max-restarts=2 \
          --rdzv-backend=c10d --rdzv-endpoint=h1:29500 "$work/rank.sh" >"$work/h$i.log" 2>&1
        echo "exit $?" >>"$work/h$i.log"
      ) &
    done
    wait
    grep -q "^exit 0" "$work/h1.log" && grep -q "^exit 0" "$work/h2.log" || fail "the run did not end well"
    grep -q "# resumed: " "$work/h1.log" || fail "nothing was killed"
    same_as_one_machine "$work/run"
    ;;
  *) fail "unknown case $case_name" ;;
esac
