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
  on "$1" true >"$work/probe.log" 2>&1 || skip "this machine makes no namespaces like a host's: $(tail -n 1 "$work/probe.log")"
}

# on I COMMAND…: on host hI. `ahead` is how many seconds its clock is ahead of h1's, `private` a folder that each host
# has for itself.
on() {
  local i=$1 clock=()
  shift
  [[ -z ${ahead:-} || $i == 1 ]] || clock=(--time --monotonic "$ahead" --boottime "$ahead")
  cat /proc/sys/kernel/random/uuid >"$work/boot$i"
  ip netns exec "${prefix}h$i" unshare --uts --mount --ipc --pid --fork --mount-proc --kill-child "${clock[@]}" \
    bash -c 'hostname "h$0"; mount -t tmpfs none /dev/shm; mount --bind "$1/hosts" /etc/hosts
      mount --bind "$1/boot$0" /proc/sys/kernel/random/boot_id
      [[ -z $2 ]] || mount -t tmpfs none "$2"; shift 2; exec "$@"' \
    "$i" "$work" "${private:-}" "$@"
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
    within 60 grep -q "^exit" "$work/h1.log" || fail "h1 goes on without h2"
    within 60 grep -q "^exit" "$work/h2.log" || fail "h2 goes on without h1"
    wait
    grep -q "^error: .*rank 1 (host h2) .* step [0-9]*; it does not answer" "$work/h1.log" || fail "h1 does not name rank, host and step"
    grep -q "^error: .*rank 0 (host h1) does not answer" "$work/h2.log" || fail "h2 does not name rank and host"
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
        on "$i" env OMP_NUM_THREADS=1 timeout -k 5 300 "$torchrun" --no-python --nnodes=2 --nproc-per-node=1 --max-restarts=2 \
          --rdzv-backend=c10d --rdzv-endpoint=h1:29500 "$work/rank.sh" >"$work/h$i.log" 2>&1
        echo "exit $?" >>"$work/h$i.log"
      ) &
    done
    wait
    grep -q "^exit 0" "$work/h1.log" && grep -q "^exit 0" "$work/h2.log" || fail "the run did not end well"
    grep -q "# resumed: " "$work/h1.log" || fail "nothing was killed"
    same_as_one_machine "$work/run"
    ;;
  names_itself_loopback)
    # As Debian's installer leaves it: a host's own name is 127.0.1.1.
    make_hosts 2
    configure
    sed -i 's/^127.0.0.1 localhost/127.0.0.1 localhost\n127.0.1.1 h2/; /^10.*h2$/d' "$work/hosts"
    start_ranks --run-dir "$work/run"
    wait
    same_as_one_machine "$work/run"
    ;;
  two_networks)
    # The second leads nowhere: chosen, it is refused with what to change; the first works.
    make_hosts 2
    configure
    for i in 1 2; do
      ip -n "${prefix}h$i" link add eth1 type veth peer name nowhere
      ip -n "${prefix}h$i" link set nowhere up
      ip -n "${prefix}h$i" addr add "192.168.$i.1/24" dev eth1
      ip -n "${prefix}h$i" link set eth1 up
    done
    sed -i 's/^start_limit = .*/start_limit = 8/' "$work/run.toml"
    GLOO_SOCKET_IFNAME=eth1 start_ranks --run-dir "$work/run"
    wait
    grep -q "error: rank [01].*192.168.[12].1.*GLOO_SOCKET_IFNAME" "$work"/h[12].log || fail "no rank, address or setting named"
    grep -q "^exit 1" "$work/h1.log" && grep -q "^exit 1" "$work/h2.log" || fail "other exit codes"
    sed -i 's/^start_limit = .*/start_limit = 60/' "$work/run.toml"
    GLOO_SOCKET_IFNAME=eth0 start_ranks --run-dir "$work/run" --overwrite
    wait
    same_as_one_machine "$work/run"
    ;;
  own_caches)
    # Token files made from the text lie in a folder that each host has for itself.
    make_hosts 2
    configure
    mkdir -p "$work/cache"
    private=$work/cache
    start_ranks --run-dir "$work/run"
    wait
    same_as_one_machine "$work/run"
    ;;
  clocks)
    # Five seconds apart, and the timeline is still one: nobody waits, or sends, for seconds.
    ahead=5
    make_hosts 2
    configure
    start_ranks --run-dir "$work/run" --timeline
    wait
    grep -q "the ranks' clocks agree to within" "$work/h1.log" || fail "no word of the clocks"
    python3 - "$work/run/timeline.json" <<'PYTHON' || fail "the timeline is torn"
import json, sys
events = json.load(open(sys.argv[1]))
events = events["traceEvents"] if isinstance(events, dict) else events
times = [(e["ts"], e.get("dur", 0)) for e in events if e.get("ph") == "X"]
length = max(t + d for t, d in times) - min(t for t, d in times)
print("timeline:", length / 1e6, "s")
sys.exit(length > 3e6)
PYTHON
    same_as_one_machine "$work/run"
    ;;
  slow_link)
    # A link of 1 Mbit/s shows as transfer, and nowhere else.
    make_hosts 2
    configure
    start_ranks --run-dir "$work/fast"
    wait
    cp "$work/h1.log" "$work/fast.log"
    for i in 1 2; do
      tc qdisc add dev "${prefix}v$i" root tbf rate 1mbit burst 4kb latency 2s 2>/dev/null || skip "this machine slows no links"
    done
    start_ranks --run-dir "$work/run"
    wait
    same_as_one_machine "$work/run"
    # Columns of the last table: stage rank … forward backward transfer waiting reduce update bubble.
    transfer() { awk '$1 == 1 && $2 == 1 && NF > 10 { print $(NF - 8) }' "$1" | tail -n 1; }
    echo "transfer s: $(transfer "$work/fast.log") fast, $(transfer "$work/h1.log") slow"
    awk -v fast="$(transfer "$work/fast.log")" -v slow="$(transfer "$work/h1.log")" 'BEGIN { exit !(slow > 2 * fast && slow > 0.1) }' ||
      fail "a slow link is not seen as transfer"
    ;;
  elastic)
    # Host h2 is gone for good: torchrun goes on with one node, and the run is laid out anew for it. Then h2 comes back.
    [[ -x $torchrun ]] || skip "there is no torchrun"
    steps=4000
    make_hosts 2
    configure
    sed -i 's/^every = .*/every = 50/' "$work/run.toml"
    # node I FORKS: torchrun knows an agent by its host and process id, which are small and equal here where nothing is
    # forked before it.
    node() {
      on "$1" bash -c 'for ((k = 0; k < $0; ++k)); do /bin/true; done; exec "$@"' "$2" env OMP_NUM_THREADS=1 TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 timeout -k 5 400 "$torchrun" --no-python --nnodes=1:2 --nproc-per-node=1 --max-restarts=5 \
        --rdzv-backend=c10d --rdzv-endpoint=h1:29500 --rdzv-conf=last_call_timeout=2,join_timeout=60,keep_alive_interval=1,keep_alive_max_attempt=3 \
        "$headrace" train "$work/run.toml" --run-dir "$work/run" --elastic --set pipeline.threads=1
    }
    (
      node 1 0 >"$work/h1.log" 2>&1
      echo "exit $?" >>"$work/h1.log"
    ) &
    sleep 1
    node 2 0 >"$work/h2.log" 2>&1 &
    lost=$!
    within 60 grep -qs "checkpoint after step" "$work/h1.log" || fail "the run did not start on two nodes"
    grep -q "laid out anew" "$work/h1.log" && fail "laid out anew at the start"
    pkill -9 -P $lost
    within 150 grep -q "# laid out anew: 1 process instead of 2: ranks 2 -> 1; .* times as long" "$work/h1.log" || fail "it does not go on with one"
    within 60 grep -qs "# resumed: " "$work/h1.log" || fail "it does not go on from a checkpoint"
    mark=$(grep -c "^step" "$work/h1.log")
    enough() { (($(grep -c "^step" "$work/h1.log") > mark + 100)); }
    within 60 enough || fail "one node makes no steps"
    (
      node 2 20 >"$work/h2.log" 2>&1
      echo "exit $?" >>"$work/h2.log"
    ) &
    wait
    grep -q "^exit 0" "$work/h1.log" || fail "the run did not end well"
    grep -c "# resumed: " "$work/h1.log"
    same_as_one_machine "$work/run"
    ;;
  *) fail "unknown case $case_name" ;;
esac
