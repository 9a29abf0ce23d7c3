/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See os.h: what the library asks about its process. */
#define _GNU_SOURCE
#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

enum { STATE_FIELD = 3, START_FIELD = 22 };	/* see proc_pid_stat(5) */

/* The name before the third field may hold anything, but the last ) ends it. */
static uint64_t start_of(const char *text)
{
	const char *at = strrchr(text, ')');

	if (!at || !at[1] || at[2] == 'Z' || at[2] == 'X')
		return 0;
	for (int field = STATE_FIELD - 1; at && field < START_FIELD; field++)
		at = strchr(at + 1, ' ');
	return at ? strtoull(at, NULL, 10) : 0;
}

uint64_t os_process_start(long id)
{
	char path[32], text[1024];

	snprintf(path, sizeof(path), "/proc/%ld/stat", id);
	return os_read_file(path, text, sizeof(text)) > 0 ? start_of(text) : 0;
}

uint64_t os_process_namespace(void)
{
	struct stat s;
	int saved = errno;
	uint64_t number = stat("/proc/self/ns/pid", &s) ? 0 : s.st_ino;

	errno = saved;
	return number;
}
