package storage

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/xpu-sztp/ztp/pkg/reason"
)

// Reasons why removable storage or a file on it is of no use.
const (
	CodeInUse      reason.Code = "storage-in-use"      // mounted, or held otherwise, by somebody else
	CodeFileSystem reason.Code = "storage-file-system" // none that is known, or that the kernel can read
	CodeUnreadable reason.Code = "storage-unreadable"  // the device or the kernel reports an error
	CodeLink       reason.Code = "storage-link"        // a symbolic link, or a path that leads out of the file system
	CodeNoFile     reason.Code = "storage-no-file"     // something else than a regular file
	CodeTooLarge   reason.Code = "storage-too-large"   // a file is larger than its kind may be
)

const tryAnother = "copy the data to another stick, and leave it plugged in until the device is provisioned"

// unreadable explains an error of the system.
func unreadable(what string, err error) *reason.Error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return &reason.Error{Code: CodeInUse, Msg: what + " is in use by the system", Err: err,
			Fix: "unmount it, and keep what mounts storage by itself off this device"}
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return &reason.Error{Code: CodeUnreadable, Msg: what + " may not be read", Fix: "run the daemon as root", Err: err}
	case errors.Is(err, unix.ENOSYS):
		return &reason.Error{Code: CodeUnreadable, Msg: what + " cannot be read by this kernel", Fix: "use Linux 5.6 or later", Err: err}
	}
	return &reason.Error{Code: CodeUnreadable, Msg: what + " cannot be read", Fix: tryAnother, Err: err}
}

// unknown says that the medium holds no file system that is mounted.
func unknown(name string) *reason.Error {
	return &reason.Error{Code: CodeFileSystem, Msg: name + " has no file system that is read here",
		Fix: "format the stick with FAT32, exFAT, ext4 or ISO 9660"}
}

// refused explains why a file that is there is not read.
func refused(path string, err error) error {
	switch {
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.EXDEV):
		return &reason.Error{Code: CodeLink, Msg: path + " is a symbolic link or below one, which is not followed",
			Fix: "copy the file itself to the stick"}
	case errors.Is(err, errNoFile):
		return &reason.Error{Code: CodeNoFile, Msg: path + " is no regular file", Fix: "copy the file itself to the stick"}
	}
	return unreadable(path, err)
}

func tooLarge(path string, limit int64) error {
	return &reason.Error{Code: CodeTooLarge, Msg: fmt.Sprintf("%s has more than %d bytes", path, limit),
		Fix: "put the artifact that belongs there on the stick"}
}
