#!/bin/sh
# Guess: `SET enable_seqscan = off` only changes which plan wins. A small table without an index for a statement is read as
#        before, with the same plan and in the same time. So it is with `enable_sort`.
# Seen:  PostgreSQL 15.18 adds ten billion to the cost of what is off. If it is used nevertheless, the sum counts like work: it
#        is above `jit_above_cost`, `jit_inline_above_cost` and `jit_optimize_above_cost`. So a statement that reads one row
#        is compiled, inlined and fully optimized, for tens of milliseconds instead of hundredths of one. A prepared statement
#        that keeps its plan does not keep the code: it is compiled again in each run. Who turns a kind of plan off for a
#        session needs `jit = off` with it.
# Runs:  PostgreSQL 15.18-0+deb12u1 from Debian 12, unpacked, in its single-user mode. Needs apt-get and dpkg-deb of a Debian 12
#        on amd64, and setpriv and a user `nobody` if root runs it.
# Ends:  0 if it is as seen, 1 if it changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
as=
if [ "$(id -u)" = 0 ]; then
  chmod a+rwx "$folder"
  as="setpriv --reuid=nobody --clear-groups"
fi
apt-get download -q postgresql-15=15.18-0+deb12u1 libllvm14=1:14.0.6-12 \
  libbsd0 libedit2 libicu72 libldap-2.5-0 libmd0 libpq5 libsasl2-2 libxml2 libz3-4 >download.log 2>&1
for package in *.deb; do dpkg-deb -x "$package" root; done
chmod -R a+rX root
mkdir -m 777 run
bin=$folder/root/usr/lib/postgresql/15/bin
export LD_LIBRARY_PATH="$folder/root/usr/lib/x86_64-linux-gnu"
$as "$bin/initdb" -D run/data -U postgres -A trust --no-sync >run.log 2>&1
explain="EXPLAIN (ANALYZE, TIMING OFF) EXECUTE"
$as "$bin/postgres" --single -D run/data postgres >plans 2>>run.log <<SQL
SHOW server_version
SET plan_cache_mode = force_generic_plan
CREATE TABLE sink (number INT PRIMARY KEY, name TEXT)
INSERT INTO sink VALUES (1, 'a')
ANALYZE sink
PREPARE a AS SELECT number FROM sink WHERE name > ''
$explain a
SET enable_seqscan = off
PREPARE b AS SELECT number FROM sink WHERE name > ''
$explain b
$explain b
SET enable_seqscan = on
SET enable_sort = off
PREPARE c AS SELECT number FROM sink WHERE name > '' ORDER BY name
$explain c
SQL
sed -n 's/.*server_version = "\(.*\)"\t.*/PostgreSQL \1/p' plans
lines() { sed -n 's/.*QUERY PLAN = "\(.*\)"\t.*/\1/p' plans | grep -E "$1"; }
lines '^(Seq Scan|Sort  )|Options|Execution'
compiled="Options: Inlining true, Optimization true, Expressions true, Deforming true"
seen=$(lines '^(Seq Scan|Sort  )|Options' | sed 's/^ *//; s/ on sink.*//; s/  (cost.*//')
test "$seen" = "Seq Scan
Seq Scan
$compiled
Seq Scan
$compiled
Sort
$compiled"
