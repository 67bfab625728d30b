include $(sort $(wildcard $(BR2_EXTERNAL_ZTP_PATH)/package/*/*.mk))
