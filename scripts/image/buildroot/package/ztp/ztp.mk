################################################################################
#
# ztp
#
################################################################################

ZTP_VERSION = 871e07c59c7fbf1b7f3bd098093aafa066f7db37
ZTP_SITE = $(call github,xpu-sztp,ztp,$(ZTP_VERSION))
ZTP_LICENSE = Apache-2.0
ZTP_LICENSE_FILES = LICENSE

# The Makefile's flags keep the binary small; it has no cgo.
define ZTP_BUILD_CMDS
	$(HOST_GO_TARGET_ENV) $(MAKE) -C $(@D) VERSION=$(ZTP_VERSION) \
		bin/ztp-linux-$(GO_GOARCH) bin/manual
endef

define ZTP_INSTALL_TARGET_CMDS
	cd $(@D) && scripts/install bin/ztp-linux-$(GO_GOARCH) bin/manual $(TARGET_DIR)
endef

# As in systemd/ztp.sysusers, which a systemd without BR2_PACKAGE_SYSTEMD_SYSUSERS does not read.
define ZTP_USERS
	ztp -1 ztp -1 * - - tss Secure zero-touch provisioning
endef

define ZTP_LINUX_CONFIG_FIXUPS
	$(call KCONFIG_ENABLE_OPT,CONFIG_EFIVAR_FS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_IPV6)
	$(call KCONFIG_ENABLE_OPT,CONFIG_IPV6_MULTIPLE_TABLES)
	$(call KCONFIG_ENABLE_OPT,CONFIG_IP_ADVANCED_ROUTER)
	$(call KCONFIG_ENABLE_OPT,CONFIG_IP_MULTIPLE_TABLES)
	$(call KCONFIG_ENABLE_OPT,CONFIG_PACKET)
	$(call KCONFIG_ENABLE_OPT,CONFIG_TCG_CRB)
	$(call KCONFIG_ENABLE_OPT,CONFIG_TCG_TIS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_TCG_TPM)
endef

$(eval $(golang-package))
