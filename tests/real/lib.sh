# Shared by the scripts beside it: packages, jars, starting and ending one server.
#   STATE  everything of one stand: data, logs, pids. The caller makes it and removes it.
#   JARS   what Maven brought; kept between runs.
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
JARS=${TIEOUT_REAL_JARS:-${XDG_CACHE_HOME:-$HOME/.cache}/tieout/real-jars}
LOOPBACK=127.0.0.1

die() { echo "$(basename "$0"): $*" >&2; exit 1; }
# say TEXT: with the seconds since T0 (milliseconds since the epoch).
say() { local ms=$(($(date +%s%3N) - T0)); printf '%4d.%03d s  %s\n' $((ms / 1000)) $((ms % 1000)) "$*"; }

# What the scripts need beside Rust. `need_packages [mariadb]` installs what is lacking where that is allowed (Debian, root).
need_packages() {
  local lacking=()
  [ "${1:-}" != mariadb ] || command -v mariadbd >/dev/null || lacking+=(mariadb-server)
  command -v java >/dev/null || lacking+=(openjdk-17-jre-headless)
  command -v mvn >/dev/null || lacking+=(maven)
  command -v psql >/dev/null || lacking+=(postgresql-client)
  ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || lacking+=(postgresql)
  command -v curl >/dev/null || lacking+=(curl)
  command -v jq >/dev/null || lacking+=(jq)
  command -v python3 >/dev/null || lacking+=(python3)
  [ ${#lacking[@]} = 0 ] && return
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || die "install ${lacking[*]}"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${lacking[@]}" >/dev/null
}

# need_jars NAME [FOLDER]: the class path that NAME.pom.xml describes, in $JARS/FOLDER.
need_jars() {
  local pom=$HERE/$1.pom.xml to=$JARS/${2:-$1}
  cmp -s "$pom" "$to/.complete" && return
  rm -rf "$to"; mkdir -p "$to"
  mvn -B -q -Dstyle.color=never -f "$pom" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
    -DoutputDirectory="$to" -DincludeScope=runtime || die "maven could not bring $1"
  cp "$pom" "$to/.complete"
}

# Python's packages, in a folder of their own: $JARS/python/bin/python has them.
need_python() {
  local wanted="fastavro==1.13.1 confluent-kafka==2.16.1"
  [ "$(cat "$JARS/python/.complete" 2>/dev/null)" = "$wanted" ] && return
  rm -rf "$JARS/python"
  if ! python3 -m venv "$JARS/python" >"$STATE/venv.log" 2>&1; then
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || die "install python3-venv: $(tail -1 "$STATE/venv.log")"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv; } >/dev/null
    python3 -m venv "$JARS/python" || die "python3 -m venv"
  fi
  # shellcheck disable=SC2086
  "$JARS/python/bin/pip" install -q --disable-pip-version-check $wanted || die "pip could not bring $wanted"
  echo "$wanted" >"$JARS/python/.complete"
}

# committed BROKER TOPIC [partition] [offset] [headers]: what a reader of what is committed sees, to the end.
committed() { PYTHONDONTWRITEBYTECODE=1 "$JARS/python/bin/python" "$HERE/topics.py" "$@"; }

# A port that nobody listens on at this moment, and that was not given before.
port() {
  local p
  while p=$((20000 + RANDOM % 12000)); grep -qsx $p "$STATE/ports" || (exec 3<>"/dev/tcp/$LOOPBACK/$p") 2>/dev/null; do :; done
  echo "$p" | tee -a "$STATE/ports"
}

# A process that is dead but not yet waited for by its parent counts as gone.
lives() { local stat; stat=$(cat "/proc/$1/stat" 2>/dev/null) && [[ $stat != *') Z '* ]]; }

# launch NAME COMMAND...: in the background, output to $STATE/NAME.log, pid to $STATE/NAME.pid.
launch() {
  local name=$1; shift
  setsid "$@" >>"$STATE/$name.log" 2>&1 </dev/null &
  echo $! >"$STATE/$name.pid"
}

# await SECONDS NAME TEST...: until TEST succeeds; at once a failure when the server NAME has died.
await() {
  local end=$((SECONDS + $1)) name=$2; shift 2
  until "$@" >/dev/null 2>&1; do
    lives "$(cat "$STATE/$name.pid")" || { tail -20 "$STATE/$name.log" >&2; die "$name ended early"; }
    [ $SECONDS -lt "$end" ] || { tail -20 "$STATE/$name.log" >&2; die "$name: gave up waiting for: $*"; }
    sleep 0.1
  done
}

# end NAME [SIGNAL]: the process that `launch` started, and no other; killed when it does not leave in 30 s.
end() {
  local file=$STATE/$1.pid pid i
  [ -s "$file" ] || return 0
  pid=$(cat "$file")
  kill -"${2:-TERM}" "$pid" 2>/dev/null || true
  for i in $(seq 300); do lives "$pid" || break; sleep 0.1; done
  if lives "$pid"; then kill -KILL "$pid" 2>/dev/null || true; fi
  rm -f "$file"
  return 0
}

# One small JVM: the quick compiler and the serial collector start fastest on few cores.
jvm() { local heap=$1; shift; java -Xmx"$heap" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 "$@"; }
