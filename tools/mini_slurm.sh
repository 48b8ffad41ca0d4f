#!/bin/bash
# mini_slurm.sh - a private, real Slurm cluster (Debian slurm-wlm 22.05) on ONE machine.
#
#   mini_slurm.sh start|stop|restart|status|env|reset
#
# Knobs (environment):
#   MINI_SLURM_DIR    everything lives here                (default mini-slurm in the folder for temporary files)
#   MINI_SLURM_NET    netns | ports | none                 (default netns)
#                       netns: every node has its own network namespace, IP, hostname
#                       ports: all nodes share the host network (one slurmd port each)
#                       none: only a controller; nodes are known, and jobs stay in the queue
#   MINI_SLURM_ACCT   dbd | none                           (default dbd -> real sacct)
#   MINI_SLURM_NODES  number of nodes                      (default 4)
#   MINI_SLURM_GPUS   fake GPUs per node                   (default 8)
#   MINI_SLURM_CPUS / MINI_SLURM_MEM_MB                    (default 16 / 64000; fictitious)
#   MINI_SLURM_PORT   base port: ctld=+17 dbd=+19 slurmd=+101.. (default 16800)
#   MINI_SLURM_SUBNET first three octets, netns mode       (default 10.77.0)
#   MINI_SLURM_PREFIX short id for bridge / netns names    (default ms)
#   MINI_SLURM_CONF   further lines of slurm.conf; a later word wins
#   MINI_SLURM_INSTALL 0 = never apt-get install           (default 1)
#
# Use it:  eval "$(mini_slurm.sh env)"; sinfo
set -uo pipefail

D=${MINI_SLURM_DIR:-${TMPDIR:-/tmp}/mini-slurm}
NET=${MINI_SLURM_NET:-netns}
ACCT=${MINI_SLURM_ACCT:-dbd}
NODES=${MINI_SLURM_NODES:-4}
GPUS=${MINI_SLURM_GPUS:-8}
CPUS=${MINI_SLURM_CPUS:-16}
MEM=${MINI_SLURM_MEM_MB:-64000}
PB=${MINI_SLURM_PORT:-16800}
SUB=${MINI_SLURM_SUBNET:-10.77.0}
PFX=${MINI_SLURM_PREFIX:-ms}
CONF=${MINI_SLURM_CONF:-}
CTLD_PORT=$((PB+17)); DBD_PORT=$((PB+19)); D_PORT=$((PB+101))
BR=${PFX}br0
SLURMDS=$NODES; [ "$NET" = none ] && SLURMDS=0
export SLURM_CONF=$D/etc/slurm.conf        # also our mark: every daemon carries it in its environ
SOCK=$D/run/munge.socket.2
HOST=$(hostname -s)

log(){ printf '[mini-slurm %(%T)T] %s\n' -1 "$*" >&2; }
die(){ log "ERROR: $*"; exit 1; }

# is PID alive and really ours (never trust a stale pid file)?
ours(){ local p=${1:-}; [[ $p =~ ^[0-9]+$ ]] && [[ -r /proc/$p/environ ]] &&
        tr '\0' '\n' 2>/dev/null </proc/"$p"/environ | grep -qxF "SLURM_CONF=$SLURM_CONF"; }
pid_of(){ cat "$D/run/$1.pid" 2>/dev/null; }
running(){ ours "$(pid_of "$1")"; }
stop_one(){ # name [seconds]
  local n=$1 t=${2:-10} p; p=$(pid_of "$n")
  if ours "$p"; then
    kill "$p" 2>/dev/null
    for ((i=0;i<t*10;i++)); do ours "$p" || break; sleep 0.1; done
    if ours "$p"; then log "$n ($p) did not stop in ${t}s: KILL"; kill -9 "$p" 2>/dev/null; fi
  fi
  rm -f "$D/run/$n.pid"
}
wait_for(){ # seconds what cmd...
  local t=$1 what=$2 end p; shift 2; end=$((SECONDS+t))
  while ((SECONDS<=end)); do
    "$@" >/dev/null 2>&1 && return 0
    for p in "$D"/run/*.pid; do   # fail fast when a daemon died
      p=${p##*/}; p=${p%.pid}; running "$p" || { sleep 0.3; running "$p" || { tail -n 3 "$D/log/$p".{out,log} >&2; die "$p died while waiting for $what"; }; }
    done
    sleep 0.05
  done
  die "$what not ready after ${t}s (see $D/log)"
}
spawn(){ # name cmd...   : detached, logged, pid recorded
  local n=$1; shift
  setsid "$@" >>"$D/log/$n.out" 2>&1 </dev/null 9>&- &
  echo $! >"$D/run/$n.pid"
}

install_pkgs(){
  local want=() p
  command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v srun >/dev/null || want+=(slurm-wlm)
  command -v munged >/dev/null || want+=(munge)
  if [ "$ACCT" = dbd ]; then
    command -v slurmdbd >/dev/null || want+=(slurmdbd)
    command -v mariadbd >/dev/null || want+=(mariadb-server)
  fi
  [ "$NET" = netns ] && { command -v ip >/dev/null || want+=(iproute2); }
  [ ${#want[@]} = 0 ] && return 0
  [ "${MINI_SLURM_INSTALL:-1}" = 1 ] || die "missing packages: ${want[*]}"
  log "apt-get install ${want[*]}"
  local pol=/usr/sbin/policy-rc.d made=
  if [ ! -e $pol ]; then printf '#!/bin/sh\nexit 101\n' >$pol; chmod 755 $pol; made=1; fi  # no system daemons, please
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${want[@]}"; } >"$D/log/apt.log" 2>&1
  local rc=$?; [ -n "$made" ] && rm -f $pol
  [ $rc = 0 ] || { tail -5 "$D/log/apt.log" >&2; die "apt-get install failed"; }
}

write_conf(){
  local ctl_addr=127.0.0.1 nodes acct state=UNKNOWN power=
  if [ "$NET" = netns ]; then
    ctl_addr=$SUB.1
    nodes="NodeName=node[1-$NODES] NodeAddr=$SUB.[11-$((10+NODES))] Port=$D_PORT"
  else
    nodes="NodeName=node[1-$NODES] NodeHostname=$HOST NodeAddr=127.0.0.1 Port=[$D_PORT-$((D_PORT+NODES-1))]"
    # Nodes in a cloud are there before they are up.
    [ "$NET" = none ] && nodes="NodeName=node[1-$NODES]" state=CLOUD power="SuspendProgram=/bin/true
ResumeProgram=/bin/true
SuspendTime=3600"
  fi
  if [ "$ACCT" = dbd ]; then
    acct="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=$ctl_addr
AccountingStoragePort=$DBD_PORT
AccountingStoragePass=$SOCK
AccountingStorageTRES=gres/gpu
JobAcctGatherType=jobacct_gather/linux"
  else
    acct="AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none"
  fi
  cat >"$D/etc/slurm.conf.new" <<E
# written by mini_slurm.sh - do not edit
ClusterName=mini
SlurmctldHost=$HOST($ctl_addr)
SlurmctldPort=$CTLD_PORT
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# cred_expire (min 5, default 120) is also how long a requeued job waits
AuthInfo=socket=$SOCK,cred_expire=5
StateSaveLocation=$D/state
SlurmdSpoolDir=$D/spool/%n
SlurmctldPidFile=$D/run/slurmctld.slurmpid
SlurmdPidFile=$D/run/slurmd-%n.slurmpid
SlurmctldLogFile=$D/log/slurmctld.log
SlurmdLogFile=$D/log/slurmd-%n.log
SlurmctldDebug=info
SlurmdDebug=info
MailProg=/bin/true
# no cgroups anywhere
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
EnforcePartLimits=ALL
# fast tests
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=1
KillWait=3
CompleteWait=0
MinJobAge=3600
SlurmdTimeout=60
InactiveLimit=0
$acct
JobCompType=jobcomp/filetxt
JobCompLoc=$D/log/jobcomp.log
$power
$CONF
$nodes CPUs=$CPUS RealMemory=$MEM Gres=gpu:$GPUS State=$state
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=60 State=UP PriorityTier=10
PartitionName=low  Nodes=ALL MaxTime=INFINITE DefaultTime=60 State=UP PriorityTier=1 PreemptMode=REQUEUE
E
  cat >"$D/etc/gres.conf" <<E
AutoDetect=off
NodeName=node[1-$NODES] Name=gpu File=$D/dev/gpu[0-$((GPUS-1))]
E
  # 22.05 has no CgroupPlugin=disabled; v1 never touches the file system unless used (autodetect may fail)
  echo "CgroupPlugin=cgroup/v1" >"$D/etc/cgroup.conf"
  mv "$D/etc/slurm.conf.new" "$D/etc/slurm.conf"
  chmod 644 "$D"/etc/{slurm,gres,cgroup}.conf
  if [ "$ACCT" = dbd ]; then
    ( umask 077; rm -f "$D/etc/slurmdbd.conf"; cat >"$D/etc/slurmdbd.conf" <<E   # slurmdbd insists on 0600
AuthType=auth/munge
AuthInfo=socket=$SOCK
DbdHost=$HOST
DbdAddr=$ctl_addr
DbdPort=$DBD_PORT
SlurmUser=root
DebugLevel=info
LogFile=$D/log/slurmdbd.log
PidFile=$D/run/slurmdbd.slurmpid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
E
    )
  fi
  # fake GPUs: a symlink to any character device is enough (no CAP_MKNOD needed)
  for ((g=0;g<GPUS;g++)); do ln -sfn /dev/null "$D/dev/gpu$g"; done
  { grep -v "# $PFX-mini-slurm" /etc/hosts
    [ "$NET" = netns ] && { echo "$SUB.1 $HOST # $PFX-mini-slurm"
      for ((n=1;n<=NODES;n++)); do echo "$SUB.$((10+n)) node$n # $PFX-mini-slurm"; done; }
  } >"$D/etc/hosts"
}

net_up(){
  [ "$NET" = netns ] || return 0
  touch "$D/run/net.owned"       # only what is listed here is ever removed again
  if ip link show "$BR" >/dev/null 2>&1; then
    grep -qx "$BR" "$D/run/net.owned" || die "bridge $BR belongs to somebody else; set MINI_SLURM_PREFIX and MINI_SLURM_SUBNET"
  fi
  grep -qx "$BR" "$D/run/net.owned" || echo "$BR" >>"$D/run/net.owned"
  ip link show "$BR" >/dev/null 2>&1 || ip link add "$BR" type bridge || die "cannot create bridge (need CAP_NET_ADMIN); use MINI_SLURM_NET=ports"
  ip addr replace "$SUB.1/24" dev "$BR"; ip link set "$BR" up
  for ((n=1;n<=NODES;n++)); do
    local ns=$PFX-node$n
    if [ -e /run/netns/"$ns" ]; then grep -qx "$ns" "$D/run/net.owned" || die "netns $ns belongs to somebody else"
    else ip netns add "$ns" || die "ip netns add $ns"; grep -qx "$ns" "$D/run/net.owned" || echo "$ns" >>"$D/run/net.owned"; fi
    if ! ip -n "$ns" link show eth0 >/dev/null 2>&1; then
      ip link add "${PFX}v$n" type veth peer name eth0 netns "$ns" || die "veth $ns"
      ip link set "${PFX}v$n" master "$BR"
    fi
    ip link set "${PFX}v$n" up
    ip -n "$ns" link set lo up
    ip -n "$ns" addr replace "$SUB.$((10+n))/24" dev eth0
    ip -n "$ns" link set eth0 up
  done
}
net_down(){
  local x p
  [ -f "$D/run/net.owned" ] || return 0
  while read -r x; do
    if [ -e /run/netns/"$x" ]; then
      for p in $(ip netns pids "$x"); do kill -9 "$p" 2>/dev/null; done   # whatever lives in there was started by our slurmd
      ip -n "$x" link del eth0 2>/dev/null      # synchronous, unlike netns del
      ip netns del "$x"
    elif ip link show "$x" >/dev/null 2>&1; then ip link del "$x"; fi
  done <"$D/run/net.owned"
  rm -f "$D/run/net.owned"
}

install_db(){
  rm -rf "$D/db"; mkdir -p "$D/db"
  mariadb-install-db --no-defaults --user=root --datadir="$D/db" --auth-root-authentication-method=normal \
    --skip-test-db --skip-name-resolve --innodb-log-file-size=8M --tmpdir="$D/tmp" >"$D/log/mariadb-install.log" 2>&1 && return
  cat "$D/log/mariadb-install.log" >&2; return 1
}
start_db(){
  [ "$ACCT" = dbd ] || return 0
  local my="mariadb --no-defaults -S $D/run/mysql.sock"
  if [ ! -e "$D/db/.ok" ]; then
    install_db || { log "mariadb-install-db failed, once more"; install_db; } ||
      { tail -n 5 "$D/log/mariadb-install.log" >&2; die "mariadb-install-db"; }
    touch "$D/db/.ok"
  fi
  if ! running mariadbd; then
    rm -f "$D/run/mysql.sock"
    spawn mariadbd mariadbd --no-defaults --user=root --datadir="$D/db" --tmpdir="$D/tmp" --socket="$D/run/mysql.sock" \
      --pid-file="$D/run/mariadbd.mypid" --skip-networking --skip-log-bin --performance-schema=0 \
      --innodb-buffer-pool-size=32M --innodb-log-file-size=8M --innodb-lock-wait-timeout=900 --innodb-flush-log-at-trx-commit=0
  fi
  wait_for 60 mariadbd $my -e 'select 1'
  $my -e "create database if not exists slurm_acct_db; create user if not exists slurm@localhost identified by 'slurm'; grant all on slurm_acct_db.* to slurm@localhost" || die "mariadb grants"
  if ! running slurmdbd; then
    MYSQL_UNIX_PORT=$D/run/mysql.sock spawn slurmdbd slurmdbd -D
  fi
  wait_for 30 slurmdbd sacctmgr -n -P list cluster
}

start(){
  [ "$(id -u)" = 0 ] || die "must be root"
  case $NET in netns|ports|none) ;; *) die "MINI_SLURM_NET=$NET";; esac
  case $ACCT in dbd|none) ;; *) die "MINI_SLURM_ACCT=$ACCT";; esac
  if [ -f "$D/mode" ] && [ "$(cat "$D/mode")" != "$NET $ACCT $NODES $GPUS $CPUS $MEM $PB $SUB $PFX $CONF" ]; then
    log "settings changed since last start: stopping the old cluster first"; stop
  fi
  mkdir -p "$D"/{etc,log,run,spool,state,dev,tmp}; chmod 755 "$D" "$D"/{etc,log,run,spool,dev}
  exec 9>"$D/lock"; flock -w 120 9 || die "another start/stop is in progress"
  install_pkgs
  if status_quiet; then log "already up"; return 0; fi
  echo "$NET $ACCT $NODES $GPUS $CPUS $MEM $PB $SUB $PFX $CONF" >"$D/mode"
  write_conf
  net_up
  if ! running munged; then
    [ -s "$D/run/munge.key" ] || ( umask 077; head -c 1024 /dev/urandom >"$D/run/munge.key" )
    rm -f "$SOCK" "$SOCK.lock"
    spawn munged munged -F --socket="$SOCK" --key-file="$D/run/munge.key" --log-file="$D/log/munged.log" \
      --pid-file="$D/run/munged.mpid" --seed-file="$D/run/munged.seed" --num-threads=4
  fi
  wait_for 10 munged munge -n -S "$SOCK"
  start_db
  running slurmctld || spawn slurmctld slurmctld -D -i
  for ((n=1;n<=SLURMDS;n++)); do
    mkdir -p "$D/spool/node$n"
    running "slurmd-node$n" && continue
    if [ "$NET" = netns ]; then
      spawn "slurmd-node$n" nsenter --net=/run/netns/"$PFX-node$n" unshare --uts --mount \
        sh -c "hostname node$n && mount --bind $D/etc/hosts /etc/hosts && exec slurmd -D -N node$n"
    else
      spawn "slurmd-node$n" slurmd -D -N "node$n"
    fi
  done
  wait_for 60 "all $NODES nodes idle" all_up
  log "up: $(sinfo -h -o '%D nodes %T, gres %G')"
}
all_up(){ if [ "$NET" = none ]; then scontrol ping 2>/dev/null | grep -q 'is UP'; return; fi
          [ "$(sinfo -h -p main -t idle,mix,alloc,comp -o %D 2>/dev/null | awk '{s+=$1} END {print s+0}')" = "$NODES" ]; }
status_quiet(){
  local s; for s in munged slurmctld; do running $s || return 1; done
  [ "$ACCT" = dbd ] && { running mariadbd && running slurmdbd || return 1; }
  for ((n=1;n<=SLURMDS;n++)); do running "slurmd-node$n" || return 1; done
  all_up
}
stop(){
  [ -d "$D/run" ] || return 0
  if running slurmctld; then
    timeout 5 squeue -h -r -o %A 2>/dev/null | sort -u | xargs -r timeout 10 scancel 2>/dev/null
    for ((i=0;i<80;i++)); do [ -z "$(timeout 5 squeue -h 2>/dev/null)" ] && break; sleep 0.1; done
  fi
  stop_one slurmctld
  local f n p
  for f in "$D"/run/slurmd-node*.pid; do [ -e "$f" ] && { n=${f##*/}; stop_one "${n%.pid}"; }; done
  # step daemons that outlived their slurmd (and only ours)
  for p in $(pgrep -x slurmstepd; pgrep -f '^slurmstepd: '); do ours "$p" && kill -9 "$p" 2>/dev/null; done
  stop_one slurmdbd; stop_one mariadbd 30; stop_one munged
  command -v ip >/dev/null && net_down
  rm -f "$D/mode"
  log "stopped"
}
status(){
  local s rc=0
  for s in munged mariadbd slurmdbd slurmctld $(seq -f slurmd-node%g 1 "$SLURMDS"); do
    [ "$ACCT" = none ] && { [ $s = mariadbd ] || [ $s = slurmdbd ]; } && continue
    if running $s; then echo "$s up pid $(pid_of $s)"; else echo "$s DOWN"; rc=1; fi
  done
  [ $rc = 0 ] && { sinfo; all_up || rc=1; }
  return $rc
}
case ${1:-} in
  start) start;;
  stop) stop;;
  restart) stop; start;;
  reset) stop; [ -f "$D/etc/slurm.conf" ] && grep -q 'written by mini_slurm.sh' "$D/etc/slurm.conf" && rm -rf "$D";;
  status) status;;
  env) echo "export SLURM_CONF=$SLURM_CONF";;
  *) sed -n '2,/^set /p' "$0" | sed '$d;s/^# \{0,1\}//'; exit 2;;
esac
