# Shared by binaries, up, down and image: where things are, and how the node's processes are known.
# shellcheck shell=bash
#
# A process belongs to the node when its environment has FLASHSALE_NODE=<component>. That survives what
# a list of process ids does not: a reboot, an id given to another process, an `up` that was interrupted.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dir=${CLUSTER_DIR:-/var/tmp/flashsale-cluster}
port=${CLUSTER_PORT:-6443}
netns=flashsale
state=/run/flashsale-containerd
# The oldest version of Kubernetes that the tests know, or the newest.
kubernetes=${FLASHSALE_KUBERNETES_VERSION:-1.34}
case $kubernetes in
  1.34) k8s=1.34.4 bin=$dir/bin modules=go.mod ;;
  1.37) k8s=1.37.2 bin=$dir/bin-1.37 modules=1.37.mod ;;
  *) echo "tests/cluster: FLASHSALE_KUBERNETES_VERSION=$kubernetes: choose 1.34 or 1.37" >&2; exit 1 ;;
esac
coredns=1.12.4
components=(containerd etcd kube-apiserver api-inside api-outside kube-controller-manager kube-scheduler kubelet kube-proxy coredns)
export PATH="$bin:$dir/bin:$PATH" KUBECONFIG="$dir/pki/admin.kubeconfig"

fail() { echo "tests/cluster: $*" >&2; exit 1; }

need_root() { [ "$(id -u)" = 0 ] || fail "a node needs root (network namespace, mounts, cgroups)"; }

# One of these scripts at a time: the second waits for the first. What they start does not inherit the lock.
mkdir -p "$bin" "$dir"/{bin,log}
exec 9>"$dir/lock"
if ! flock -n 9; then
  echo "waiting for another of the scripts in tests/cluster, which holds $dir/lock (at most half an hour)" >&2
  flock -w 1800 9 || fail "another of these scripts has held $dir/lock for half an hour"
fi

marked() { grep -lsz '^FLASHSALE_NODE=' /proc/[0-9]*/environ | cut -d/ -f3 || true; }

alive() { # component
  local pid
  pid=$(cat "$dir/run/$1.pid" 2>/dev/null) && grep -qsxz "FLASHSALE_NODE=$1" "/proc/$pid/environ"
}

start() { # component command...: in the node's network, in the session's mount namespace
  local name=$1; shift
  FLASHSALE_NODE=$name setsid nsenter --net=/run/netns/$netns "$@" >"$dir/log/$name.log" 2>&1 </dev/null 9>&- &
  echo $! >"$dir/run/$name.pid"
}

await() { # component seconds command...: until the command succeeds, as long as the component lives
  local name=$1 end=$((SECONDS + $2)); shift 2
  until "$@" >/dev/null 2>&1; do
    alive "$name" || { tail -5 "$dir/log/$name.log" >&2; fail "$name ended; its log is $dir/log/$name.log"; }
    [ $SECONDS -lt $end ] || fail "$name is not ready ($*); its log is $dir/log/$name.log"
    sleep 0.1
  done
}

start_api() {
  local p=$dir/pki
  start kube-apiserver kube-apiserver --etcd-servers http://127.0.0.1:2379 --advertise-address 10.88.0.2 \
    --tls-cert-file "$p/apiserver.crt" --tls-private-key-file "$p/apiserver.key" --client-ca-file "$p/ca.crt" \
    --service-account-issuer https://kubernetes.default.svc.cluster.local \
    --service-account-key-file "$p/sa.key" --service-account-signing-key-file "$p/sa.key" \
    --kubelet-client-certificate "$p/kubelet-client.crt" --kubelet-client-key "$p/kubelet-client.key" \
    --kubelet-preferred-address-types InternalIP `# for exec and logs: the node's name is in no DNS` \
    --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
    --requestheader-client-ca-file "$p/front-proxy-ca.crt" --requestheader-allowed-names front-proxy `# for aggregated APIs` \
    --requestheader-username-headers X-Remote-User --requestheader-group-headers X-Remote-Group \
    --requestheader-extra-headers-prefix X-Remote-Extra- \
    --proxy-client-cert-file "$p/front-proxy.crt" --proxy-client-key-file "$p/front-proxy.key" \
    --service-cluster-ip-range 10.96.0.0/16 --allow-privileged --profiling=false
}

# Kubernetes and CoreDNS from their Go modules, once: some minutes on 2 cores.
build_binaries() {
  local node v=k8s.io/component-base/version c=k8s.io/client-go/pkg/version
  node=node-$k8s-$(cat "$here/node/main.go" "$here/node/$modules" | sha256sum | cut -c1-8)
  if [ ! -x "$bin/$node" ]; then
    echo "building Kubernetes $k8s (about 4 minutes on 2 cores; once)" >&2
    (cd "$here/node" && go build -modfile "$modules" -trimpath -o "$bin/$node.new" \
      -ldflags "-s -w -X $v.gitVersion=v$k8s -X $v.gitMajor=1 -X $v.gitMinor=${kubernetes#1.} -X $c.gitVersion=v$k8s" . 9>&-)
    mv "$bin/$node.new" "$bin/$node"
  fi
  for name in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl; do
    ln -sfn "$node" "$bin/$name"
  done
  if [ ! -x "$dir/bin/coredns-$coredns" ]; then
    echo "building CoreDNS $coredns (about 90 seconds on 2 cores; once)" >&2
    GOBIN=$dir/coredns.new go install -trimpath -ldflags '-s -w' "github.com/coredns/coredns@v$coredns" 9>&-
    mv "$dir/coredns.new/coredns" "$dir/bin/coredns-$coredns"
    rmdir "$dir/coredns.new"
  fi
  ln -sfn "coredns-$coredns" "$dir/bin/coredns"
}

ctr() { command ctr -a "$dir/run/containerd.sock" -n k8s.io "$@"; }

# buildah with a store of its own, and without the kernel features that containers lack.
buildah() {
  BUILDAH_ISOLATION=chroot command buildah --root "$dir/storage" --runroot /run/flashsale-storage --storage-driver overlay "$@"
}

load_image() { # name: from buildah's store into the node
  local archive=$dir/run/image.tar
  rm -f "$archive"
  buildah push -q "$1" "docker-archive:$archive:$1" >/dev/null
  ctr images import "$archive" >/dev/null
  rm -f "$archive"
}

# Stops every process of the node and removes all of its state but the built binaries and images.
remove_node() {
  local ours containers gone
  # The first process of a container is a child of containerd's shim; everything else is marked, and most
  # of it is in the node's network.
  ours=$( (marked; ip netns pids "$netns" 2>/dev/null || true) | sort -u | tr '\n' ' ')
  containers=$(grep -sH '^PPid:' /proc/[0-9]*/status | awk -v ours="$ours" '
    BEGIN { n = split(ours, list, " "); for (i = 1; i <= n; i++) parent[list[i]] = 1 }
    $2 in parent { split($1, path, "/"); print path[3] }')
  for pid in $ours $containers; do kill -KILL "$pid" 2>/dev/null || true; done
  gone=$((SECONDS + 10))
  while [ -n "$(marked)" ]; do
    [ $SECONDS -lt $gone ] || fail "processes of the node do not end: $(marked | tr '\n' ' ')"
    sleep 0.1
  done
  for _ in 1 2 3; do # mounts on top of mounts
    awk -v d="$dir/kubelet" -v s="$state" 'index($2, d) == 1 || index($2, s) == 1 {print $2}' /proc/mounts |
      sort -r | xargs -r -n1 umount -l 2>/dev/null || true
  done
  [ ! -e "/run/netns/$netns" ] || ip netns del "$netns"
  # Never descend into a mount that is still there.
  rm -rf --one-file-system "$dir"/{etcd,kubelet,pv,pki,pki.new,run,cni,containerd} "$state"
  find /sys/fs/cgroup -depth -type d -path '*/kubepods*' -exec rmdir {} + 2>/dev/null || true
}
