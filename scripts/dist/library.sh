# What the tests of packages share; they source it. A root is a copy of the tree, below $work.
# shellcheck shell=sh
# shellcheck disable=SC2154 # $tree and $work are set by who sources this

say() { echo "dist-test: $*"; }

fail() {
	echo "dist-test: FAILED: $*" >&2
	exit 1
}

# new_root NAME prints the folder of a fresh copy, in which systemd seems to run: a stand-in for systemctl writes down what it is
# asked for and has the real one do what changes files only.
new_root() {
	cp -a "$tree" "$work/$1"
	rm -f "$work/$1"/etc/dpkg/dpkg.cfg.d/*mmdebstrap # it leaves out manual pages
	mv "$work/$1/usr/bin/systemctl" "$work/$1/usr/bin/systemctl.real"
	cat >"$work/$1/usr/bin/systemctl" <<-'END'
		#!/bin/sh
		echo "$*" >>/var/log/systemctl
		case " $* " in
		*" preset "* | *" enable "* | *" disable "* | *" is-enabled "*) SYSTEMD_OFFLINE=1 exec systemctl.real "$@" ;;
		esac
	END
	chmod 755 "$work/$1/usr/bin/systemctl"
	: >"$work/$1/var/log/systemctl"
	mkdir -p "$work/$1/run/systemd/system"
	mount -t proc proc "$work/$1/proc"
	echo "$work/$1"
}

inside() { # ROOT COMMAND...
	chroot=$1
	shift
	chroot "$chroot" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=/root "$@"
}

# ztp_says ROOT CODE WORDS... runs ztp and wants an exit code, which may be a pattern, on a machine where systemd seems not to run.
ztp_says() {
	root=$1 want=$2 code=0
	shift 2
	rmdir "$root/run/systemd/system"
	inside "$root" ztp "$@" >"$work/said" 2>&1 || code=$?
	mkdir "$root/run/systemd/system"
	case $code in
	# shellcheck disable=SC2254 # a pattern
	$want) ;;
	*)
		cat "$work/said" >&2
		fail "ztp $* ended with $code instead of $want"
		;;
	esac
}

# snapshot ROOT prints all files that a package may touch, with owners, modes and digests. Left out are the books of the package
# managers, and those of users: who owned files stays known, lest somebody else get them.
snapshot() {
	(
		cd "$1" || exit
		set -- -path ./proc -o -path ./dev -o -path ./sys -o -path ./var/lib/dpkg -o -path ./var/lib/rpm -o -path ./usr/lib/sysimage/rpm \
			-o -path ./var/log -o -path ./var/cache/debconf -o -path ./tmp -o -path './etc/passwd*' -o -path './etc/group*' \
			-o -path './etc/shadow*' -o -path './etc/gshadow*' -o -path ./etc/.pwd.lock
		find . \( "$@" \) -prune -o -printf '%y %m %U:%G %p %l\n' | sort
		find . \( "$@" \) -prune -o -type f -print0 | sort -z | xargs -0 sha256sum
	)
}

# kept ROOT prints what is not the package's: state, and files with configuration, anchors and the vendor's drop-ins.
kept() {
	(
		cd "$1" || exit
		find var/lib/ztp -printf '%y %m %U:%G %p %l\n' | sort
		set -- var/lib/ztp var/cache/ztp etc/ztp usr/lib/ztp/ztp.toml.d usr/lib/ztp/trust -type f ! -name README
		find "$@" -printf '%m %U:%G %p\n' | sort
		find "$@" -print0 | sort -z | xargs -0 sha256sum
	)
}

same() { # FILE FILE WHAT
	diff -u "$1" "$2" >&2 || fail "$3"
}

enabled() { # ROOT STATE [UNIT]
	state=$(SYSTEMD_OFFLINE=1 systemctl --root="$1" is-enabled "${3:-ztp.service}" 2>/dev/null) || true
	[ "$state" = "$2" ] || fail "${3:-ztp.service} is $state, not $2"
}

# without ROOT UNIT has the package that is installed be one from before a unit.
without() {
	SYSTEMD_OFFLINE=1 systemctl --root="$1" --quiet disable "$2"
	rm "$1/usr/lib/systemd/system/$2"
	[ ! -d "$1/var/lib/systemd/deb-systemd-helper-enabled" ] || find "$1/var/lib/systemd/deb-systemd-helper-enabled" -name "$2*" -delete
}

# undisturbed ROOT WHEN wants that no unit was started, stopped or restarted.
undisturbed() {
	! grep -E '(^| )(start|stop|restart|try-restart|reload-or-restart|reload|kill|isolate|--now)( |$)' "$1/var/log/systemctl" >&2 || fail "$2 disturbed a unit"
}

# live ROOT makes a device of it that has an identity, a vendor, an administrator and a history.
live() {
	mkdir -p "$1/var/lib/ztp/slots" "$1/var/cache/ztp"
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj '/CN=device/serialNumber=SN-1' \
		-keyout "$1/etc/ztp/device.key" -out "$1/etc/ztp/device.pem" 2>/dev/null
	chmod 600 "$1/etc/ztp/device.key"
	cp "$1/etc/ztp/device.pem" "$1/etc/ztp/trust/vouchers/own.pem"
	cp "$1/etc/ztp/device.pem" "$1/usr/lib/ztp/trust/vouchers/maker.pem"
	printf '[identity]\ntpm = "none"\nkey = "/etc/ztp/device.key"\ncertificate = "/etc/ztp/device.pem"\n' >"$1/etc/ztp/ztp.toml"
	printf '[retry]\nmax = "1h"\n' >"$1/etc/ztp/ztp.toml.d/50-admin.toml"
	printf '[device]\nhw-model = "X"\n' >"$1/usr/lib/ztp/ztp.toml.d/50-vendor.toml"
	echo image >"$1/var/lib/ztp/slots/b.img"
	echo part >"$1/var/cache/ztp/image.part"
	ztp_says "$1" 0 disable
	ztp_says "$1" 3 status
	ztp_says "$1" 0 identity show
	grep -q SN-1 "$work/said" || fail "the identity has no serial number"
}

# works ROOT asks the installed program for what needs neither an identity nor a network.
works() {
	ztp_says "$1" 0 version
	ztp_says "$1" 4 status
	ztp_says "$1" 69 identity show
	ztp_says "$1" 1 doctor --offline
	[ -z "$(find "$1/usr/lib/ztp" "$1/etc/ztp" -name '*.pem')" ] || fail "the package brings trust anchors"
}
