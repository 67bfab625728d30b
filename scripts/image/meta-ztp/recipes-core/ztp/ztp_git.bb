SUMMARY = "Secure zero-touch provisioning agent (RFC 8572)"
DESCRIPTION = "Provisions a device when it is started for the first time: finds a bootstrap server, proves the device's identity \
with a key in the TPM, and acts only on data that the device's owner has signed, or that comes from a server it can authenticate."
HOMEPAGE = "https://github.com/xpu-sztp/ztp"
SECTION = "net"

LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://src/${GO_IMPORT}/LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"

# The modules and their licences, which "bitbake -c update_modules ztp" writes.
include ${BPN}-go-mods.inc
include ${BPN}-licenses.inc

SRC_URI += "git://${GO_IMPORT};branch=main;protocol=https;destsuffix=${GO_SRCURI_DESTSUFFIX}"
SRCREV = "871e07c59c7fbf1b7f3bd098093aafa066f7db37"
PV = "0+git"

GO_IMPORT = "github.com/xpu-sztp/ztp"
GO_INSTALL = "${GO_IMPORT}/cmd/ztp ${GO_IMPORT}/cmd/internal/manual"

inherit go-mod go-mod-update-modules systemd useradd bash-completion features_check

REQUIRED_DISTRO_FEATURES = "systemd usrmerge"
COMPATIBLE_HOST = "(x86_64|aarch64).*-linux"

# Go compiles for any machine when there is no cgo. So its native compiler serves for the agent, with the Makefile's flags, which
# keep it small, and for the program that makes the manual pages on this machine.
ZTP_GO = "env -u GOROOT -u GOTOOLDIR GOFLAGS=-modcacherw GOTOOLCHAIN=local GOPROXY=off"
DEPENDS += "go-native"

do_compile() {
    cd ${S}/src/${GO_IMPORT}
    ${ZTP_GO} make VERSION='${PV}' bin/ztp-linux-${TARGET_GOARCH} bin/manual
}

do_install() {
    cd ${S}/src/${GO_IMPORT}
    scripts/install bin/ztp-linux-${TARGET_GOARCH} bin/manual ${D}
}

# The unit that others hang on; what else there is, the presets enable. Nothing restarts it: a session may be running.
SYSTEMD_SERVICE:${PN} = "ztp.service"
SYSTEMD_AUTO_ENABLE:${PN} = "preset"

# As in systemd/ztp.sysusers, for root file systems that are read-only, and for musl, with which systemd has no systemd-sysusers.
USERADD_PACKAGES = "${PN}"
GROUPADD_PARAM:${PN} = "--system tss"
USERADD_PARAM:${PN} = "--system --user-group --groups tss --no-create-home --home-dir ${localstatedir}/lib/ztp \
    --shell ${base_sbindir}/nologin ztp"

PACKAGE_BEFORE_PN += "${PN}-zsh-completion ${PN}-fish-completion"
FILES:${PN}-zsh-completion = "${datadir}/zsh"
FILES:${PN}-fish-completion = "${datadir}/fish"
FILES:${PN} += "${nonarch_libdir}/ztp ${nonarch_libdir}/systemd ${nonarch_libdir}/sysusers.d ${nonarch_libdir}/tmpfiles.d \
    ${nonarch_libdir}/udev"

# It is static, and linked without what is only for debuggers.
INSANE_SKIP:${PN} += "already-stripped"
