/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See os.h: a file that is memory, shared with other processes. */
#define _GNU_SOURCE
#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* All of it is there from now on: a store can't meet a full file system.  Asks
 * for the limit first, beyond which there would be a signal. */
static int reserve(int fd, size_t bytes)
{
	struct rlimit most;

	if (!getrlimit(RLIMIT_FSIZE, &most) && most.rlim_cur < bytes)
		return -EFBIG;
	return fallocate(fd, 0, 0, (off_t)bytes) ? -errno : 0;
}

static int map_new(const char *path, size_t bytes, void **ret_base)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		      0600);
	void *base = NULL;
	int ret = fd < 0 ? -errno : reserve(fd, bytes);

	if (!ret) {
		base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			    0);
		ret = base == MAP_FAILED ? -errno : 0;
	}
	if (fd >= 0)
		close(fd);
	if (fd >= 0 && ret)
		unlink(path);
	if (!ret)
		*ret_base = base;
	return ret;
}

int os_map_file(const char *path, size_t bytes, void **ret_base)
{
	int saved = errno;
	int before, ret;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
	unlink(path);
	ret = map_new(path, bytes, ret_base);
	pthread_setcancelstate(before, &before);
	errno = saved;
	return ret;
}

void os_remove_file(const char *path)
{
	int saved = errno;

	unlink(path);
	errno = saved;
}
