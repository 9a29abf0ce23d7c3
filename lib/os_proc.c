/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See os.h: what the library asks about its process. */
#define _GNU_SOURCE
#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

static long read_all(int fd, char *text, size_t bytes)
{
	size_t length = 0;
	long got = 1;

	while (got > 0 && length < bytes) {
		got = syscall(SYS_read, fd, text + length, bytes - length);
		if (got > 0)
			length += (size_t)got;
	}
	return got < 0 ? -errno : (long)length;
}

/* By syscall(), since read() and its like are cancellation points. */
long os_read_file(const char *path, char *text, size_t bytes)
{
	int saved = errno;
	long fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	long length = fd < 0 ? -errno : read_all((int)fd, text, bytes - 1);

	if (fd >= 0)
		syscall(SYS_close, (int)fd);
	text[length < 0 ? 0 : length] = '\0';
	errno = saved;
	return length;
}

long os_process_id(void)
{
	return getpid();
}
