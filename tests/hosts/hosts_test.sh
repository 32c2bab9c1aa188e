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
# has for itself: hI's is diskI in the one that all see.
on() {
  local i=$1 clock=()
  shift
  [[ -z ${ahead:-} || $i == 1 ]] || clock=(--time --monotonic "$ahead" --boottime "$ahead")
  cat /proc/sys/kernel/random/uuid >"$work/boot$i"
  mkdir -p "$work/disk$i" "${private:-$work}"
  ip netns exec "${prefix}h$i" unshare --uts --mount --ipc --pid --fork --mount-proc --kill-child "${clock[@]}" \
    bash -c 'hostname "h$0"; mount -t tmpfs none /dev/shm; mount --bind "$1/hosts" /etc/hosts
      mount --bind "$1/boot$0" /proc/sys/kernel/random/boot_id
      [[ -z $2 ]] || mount --bind "$1/disk$0" "$2"; shift 2; exec "$@"' \
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

# start_all ARGS…: headrace train, a rank on each host, without a launcher; host hI's output and exit code in hI.log. `first`
# is the host of rank 0.
start_all() {
  for i in $(seq 1 "$hosts"); do
    (
      on "$i" env OMP_NUM_THREADS=1 RANK=$(((i + hosts - ${first:-1}) % hosts)) WORLD_SIZE="$hosts" LOCAL_RANK=0 LOCAL_WORLD_SIZE=1 \
        MASTER_ADDR="${address:-h${first:-1}}" MASTER_PORT=29511 "$headrace" train "$@" >"$work/h$i.log" 2>&1
      echo "exit $?" >>"$work/h$i.log"
    ) &
  done
}

start_ranks() { start_all "$work/run.toml" "$@"; }

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
    start_all --resume "$work/run" --steps $steps
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
    # The store listens on the network that was chosen and on no other.
    if command -v ss >/dev/null; then
      listens() { ip netns exec "${prefix}h1" ss -Hltn "sport = :29511" | tee "$work/ss.log" | grep -q .; }
      within 60 listens || fail "nothing listens"
      grep -q "$net.1:29511" "$work/ss.log" && ! grep -q '[*]:29511\|0.0.0.0:29511' "$work/ss.log" || fail "the store listens on other networks"
    fi
    wait
    same_as_one_machine "$work/run"
    ;;
  own_caches)
    # Token files made from the text lie in a folder that each host has for itself.
    make_hosts 2
    configure
    private=$work/cache
    start_ranks --run-dir "$work/run"
    wait
    same_as_one_machine "$work/run"
    ;;
  no_shared_folder)
    # Each host has the folder of the run for itself, and with it the shards of its own rank.
    make_hosts 2
    configure
    private=$work/run
    printf "[optimizer]\ndecay = \"constant\"\n" >>"$work/run.toml"
    start_ranks --run-dir "$work/run"
    wait
    grep -q "another folder on each of h1, h2" "$work/h1.log" || fail "nothing says so"
    parts=("$work"/disk[12]/checkpoints/step-00000020)
    cmp "${parts[0]}/checksums.json" "${parts[1]}/checksums.json" || fail "the parts are not of one checkpoint"
    "$headrace" checkpoint list "$work/disk1" | tee "$work/list.log" | grep -q "lacks first-00002-of-00002.safetensors and 2 more" || fail "list does not say what is lacking"
    "$headrace" checkpoint verify "${parts[0]}" >"$work/verify.log" && fail "a part is taken for whole"
    mkdir -p "$work/whole/checkpoints/step-00000020"
    cp -n "${parts[0]}"/* "${parts[1]}"/* "$work/whole/checkpoints/step-00000020"
    cp "$work/disk1/metrics.jsonl" "$work/whole"
    "$headrace" checkpoint verify "$work/whole/checkpoints/step-00000020" >"$work/verify.log" || fail "the parts together are not whole"
    same_as_one_machine "$work/whole"

    # It goes on, also with the ranks the other way round, and each host gets what it lacks from the other.
    start_all --resume "$work/run" --steps 30
    wait
    grep -q "# resumed: .*step-00000020" "$work/h1.log" || fail "it does not go on"
    first=2 start_all --resume "$work/run" --steps 40
    wait
    grep -q "# resumed: .*step-00000030" "$work/h2.log" || fail "it does not go on with the ranks exchanged"
    (cd "$work" && "$headrace" train run.toml --steps 40 --run-dir "$work/forty" >"$work/forty.log" 2>&1) || fail "the run of one machine"
    results "$work/forty" | tail -n 10 | cmp - <(results "$work/disk2" | tail -n 10) || fail "other losses than on one machine"

    # A host whose disk is gone.
    rm -r "$work/disk1" && mkdir "$work/disk1"
    cp "$work/disk2/config.toml" "$work/disk1"
    first=2 start_all --resume "$work/run" --steps 50
    wait
    grep -q "error: no checkpoint in .*step-00000040: .*model-00002-of-00002.safetensors.* on none of the hosts, and h1 has nothing" "$work"/h[12].log || fail "nothing says which shards are missing where"
    rm "$work/disk1/config.toml"
    first=2 start_all --resume "$work/run" --steps 50 --set pipeline.start_limit=5
    wait
    grep -q "error: .*is no run's folder" "$work/h1.log" || fail "a host without the run says nothing"
    ;;
  mpirun)
    command -v mpirun >/dev/null || skip "there is no mpirun (package openmpi-bin)"
    make_hosts 2
    configure
    cat >"$work/agent" <<'SH'
#!/bin/bash
# HOST COMMAND…: as ssh would run it there.
host=$1 && shift
on "${host#h}" bash -c "$*"
SH
    chmod +x "$work/agent"
    export -f on
    export work prefix
    # What stands between the hosts and headrace is what ssh is between real ones.
    mkdir "$work/tmp"
    on 1 env OMP_NUM_THREADS=1 TMPDIR="$work/tmp" timeout -k 5 100 mpirun -np 2 --host h1,h2 -x MASTER_ADDR=h1 --allow-run-as-root --mca plm_rsh_agent "$work/agent" \
      --leave-session-attached --mca plm_rsh_no_tree_spawn 1 --mca oob_tcp_if_include "$net.0/24" \
      "$headrace" train "$work/run.toml" --run-dir "$work/run" >"$work/h1.log" 2>&1 || fail "mpirun"
    same_as_one_machine "$work/run"
    ;;
  slurm)
    PATH=$PATH:/usr/sbin
    for program in slurmctld slurmd munged sbatch; do
      command -v $program >/dev/null || skip "there is no $program (packages slurmctld, slurmd, slurm-client, munge)"
    done
    steps=3000
    make_hosts 2
    configure
    sed -i 's/^every = .*/every = 100/' "$work/run.toml"
    mkdir -p "$work/slurm/state" "$work/slurm/spool-h1" "$work/slurm/spool-h2" "$work/jobs"
    dd if=/dev/urandom of="$work/slurm/key" bs=64 count=1 status=none && chmod 600 "$work/slurm/key"
    cat >"$work/slurm/slurm.conf" <<CONF
ClusterName=headrace
SlurmctldHost=h1($net.1)
AuthType=auth/munge
AuthInfo=socket=$work/slurm/munge
SlurmUser=root
StateSaveLocation=$work/slurm/state
SlurmdSpoolDir=$work/slurm/spool-%n
SlurmctldPidFile=$work/slurm/ctld.pid
SlurmdPidFile=$work/slurm/slurmd-%n.pid
SlurmctldLogFile=$work/slurm/ctld.log
SlurmdLogFile=$work/slurm/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=h1 NodeAddr=$net.1 CPUs=1
NodeName=h2 NodeAddr=$net.2 CPUs=1
PartitionName=all Nodes=h1,h2 Default=YES MaxTime=INFINITE State=UP
CONF
    echo "CgroupPlugin=cgroup/v1" >"$work/slurm/cgroup.conf"
    export SLURM_CONF=$work/slurm/slurm.conf
    munged --foreground --force --key-file="$work/slurm/key" --socket="$work/slurm/munge" --pid-file="$work/slurm/munge.pid" \
      --log-file="$work/slurm/munge.log" --seed-file="$work/slurm/seed" >"$work/munged.log" 2>&1 &
    daemons=($!)
    # `on` ends what it has started with itself.
    trap 'for each in "${daemons[@]}"; do pkill -9 -P "$each"; kill "$each"; done 2>/dev/null; clean' EXIT
    on 1 slurmctld -D >"$work/slurmctld.log" 2>&1 &
    daemons+=($!)
    for i in 1 2; do
      # Entering a network hides what is mounted in /sys, and slurmd looks for it.
      on $i bash -c 'mount -t tmpfs none /sys/fs/cgroup && mkdir /sys/fs/cgroup/systemd; exec slurmd -D' >"$work/slurmd$i.log" 2>&1 &
      daemons+=($!)
    done
    idle() { [[ $(on 1 sinfo -h -o '%T %D' 2>/dev/null) == "idle 2" ]]; }
    within 60 idle || fail "Slurm does not start"
    script=$(cd "$(dirname "$0")/../../examples" && pwd)/slurm.sbatch
    export PATH="$(dirname "$headrace"):$PATH" OMP_NUM_THREADS=1
    cd "$work/jobs"
    job() { on 1 sbatch --parsable --wait --output="$work/$1.log" "${@:2}" "$script" "$work/run.toml"; }
    # Asked to stop, as --signal does it ahead of the time, the job saves; the same script goes on.
    job first --job-name=first >"$work/sbatch.log" 2>&1 &
    first_job=$!
    within 60 grep -qs "checkpoint after step" "$work/first.log" || fail "the job does not start"
    on 1 scancel --signal=TERM --name=first
    wait $first_job
    echo "first job: exit $?" | tee -a "$work/sbatch.log"
    grep -q "stopped as asked, after step" "$work/first.log" || fail "Slurm's signal does not stop the run"
    job second >>"$work/sbatch.log" 2>&1 || fail "the second job"
    grep -q "# resumed: " "$work/second.log" || fail "the second job does not go on"
    same_as_one_machine "$work/jobs/runs/run"
    ;;
  fence)
    # The rules of docs/cluster.md: the run's hosts reach one another, and a third reaches none of them.
    PATH=$PATH:/usr/sbin
    command -v nft >/dev/null || skip "there is no nft (package nftables)"
    steps=3000
    make_hosts 3
    hosts=2 configure
    sed -n '/^    table inet headrace {/,/^    }/p' "$(dirname "$0")/../../docs/cluster.md" | sed "s/10.77.0/$net/g" >"$work/rules"
    reaches() { on 3 timeout 2 bash -c "</dev/tcp/h$1/29511" 2>/dev/null; }
    hosts=2 start_ranks --run-dir "$work/open"
    within 60 grep -qs "^step" "$work/h1.log" || fail "the run did not start"
    reaches 1 || fail "nothing is open to a stranger, so that nothing is tested"
    wait
    for i in 1 2; do
      ip netns exec "${prefix}h$i" nft -f "$work/rules" 2>"$work/nft.log" || skip "this machine takes no rules: $(tail -n 1 "$work/nft.log")"
    done
    hosts=2 start_ranks --run-dir "$work/run"
    within 60 grep -qs "^step" "$work/h1.log" || fail "the run did not start behind the rules"
    reaches 1 && fail "a stranger comes in"
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
