#!/bin/sh
# Installs Debian packages that tests run programs of. Needs root.
#
#   test-deps.sh PACKAGE...
#
# Some of the packages are servers, which Debian starts when they are installed
# and whenever the machine starts from then on. The tests run the programs by
# themselves, so the services of what was not there before are neither started
# nor left switched on; those that were are left as they are. Nothing is removed
# for them, as another server of the same kind would be.
set -eu

POLICY=/usr/sbin/policy-rc.d # asked by Debian's tools before they start a service
SERVICES="nginx openssh-server:ssh redis-server memcached vsftpd dovecot-core:dovecot postgresql chrony kea-dhcp4-server kea-dhcp6-server
isc-dhcp-server nethack-console:nethack-common inetutils-inetd"

[ $# -gt 0 ] || {
	echo "usage: $0 PACKAGE..." >&2
	exit 2
}

installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q ' installed$'; }

missing=
for p; do installed "$p" || missing="$missing $p"; done
[ -n "$missing" ] || {
	echo "all there: $*"
	exit 0
}

new=
for s in $SERVICES; do installed "${s%:*}" || new="$new ${s#*:}"; done # of one without a colon both are the whole
if [ ! -e "$POLICY" ]; then
	trap 'rm -f "$POLICY"' EXIT
	trap 'exit 1' HUP INT TERM
	printf '#!/bin/sh\nexit 101\n' >"$POLICY"
	chmod +x "$POLICY"
fi
# shellcheck disable=SC2086 # a list
apt-get install -y --no-install-recommends --no-remove $missing || {
	apt-get update
	apt-get install -y --no-install-recommends --no-remove $missing
}
if command -v systemctl >/dev/null; then
	for s in $new; do
		systemctl disable "$s" >/dev/null 2>&1 || echo "test-deps.sh: could not switch off $s" >&2
	done
fi
