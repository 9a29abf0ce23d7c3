/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE	/* O_PATH, and the system call without a wrapper */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS 1000000000
#define SETTLED_NS (SECOND_NS / 10)	/* file systems' clocks tick slower */
#define RACES 8		/* renames beside us that openat2() may meet */

static int64_t ns_of(struct timespec t)
{
	return (int64_t)t.tv_sec * SECOND_NS + t.tv_nsec;
}

bool file_same(const struct file_stamp *a, const struct file_stamp *b)
{
	return a->bytes == b->bytes && a->inode == b->inode &&
	       a->modified_ns == b->modified_ns &&
	       a->changed_ns == b->changed_ns;
}

bool file_is_settled(const struct file_stamp *stamp)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return stamp->changed_ns < ns_of(now) - SETTLED_NS;
}

/* No empty part, no "." and no "..": one file has one name. */
static bool is_plain(const char *path)
{
	for (;; path++) {
		size_t length = strcspn(path, "/");

		if (!length || (length <= 2 && !strncmp(path, "..", length)))
			return false;
		path += length;
		if (!*path)
			return true;
	}
}

static int open_beneath(int folder, const char *path)
{
	struct open_how how = {
		.flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};
	long fd;

	/* EAGAIN: somebody renamed a folder meanwhile, so "beneath" is open. */
	for (int i = 0; i < RACES; i++) {
		fd = syscall(SYS_openat2, folder, path, &how, sizeof(how));
		if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
			break;
	}
	return fd < 0 ? -errno : (int)fd;
}

/* What a client may know: there is such a file, or not. */
static int as_absent(int error)
{
	switch (error) {
	case -EMFILE:
	case -ENFILE:
	case -ENOMEM:
	case -EIO:
		return error;
	default:
		return -ENOENT;
	}
}

int file_open_folder(const char *path, int *ret_folder)
{
	int folder = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd;

	if (folder < 0)
		return -errno;
	/* Says at once if the kernel has no openat2(), or may not show it. */
	fd = open_beneath(folder, ".");
	if (fd < 0) {
		close(folder);
		return fd;
	}
	close(fd);
	*ret_folder = folder;
	return 0;
}

int file_stat(int fd, struct file_stamp *ret_stamp)
{
	struct stat s;

	if (fstat(fd, &s) < 0)
		return -errno;
	if (!S_ISREG(s.st_mode))
		return -ENOENT;
	*ret_stamp = (struct file_stamp){
		.bytes = (uint64_t)s.st_size,
		.inode = s.st_ino,
		.modified_ns = ns_of(s.st_mtim),
		.changed_ns = ns_of(s.st_ctim),
	};
	return 0;
}

int file_open(int folder, const char *path, int *ret_fd,
	      struct file_stamp *ret_stamp)
{
	int fd, ret;

	if (!is_plain(path))
		return -ENOENT;
	fd = open_beneath(folder, path);
	if (fd < 0)
		return as_absent(fd);
	ret = file_stat(fd, ret_stamp);
	if (ret < 0) {
		close(fd);
		return ret;
	}
	*ret_fd = fd;
	return 0;
}

/* Leaves in the vector what is still to be read. */
static unsigned skip(struct iovec *parts, unsigned count, size_t bytes)
{
	unsigned done = 0;

	while (done < count && bytes >= parts[done].iov_len)
		bytes -= parts[done++].iov_len;
	memmove(parts, parts + done, (count - done) * sizeof(*parts));
	if (done < count) {
		parts[0].iov_base = (char *)parts[0].iov_base + bytes;
		parts[0].iov_len -= bytes;
	}
	return count - done;
}

int file_read(int fd, struct iovec *parts, unsigned count)
{
	off_t at = 0;

	count = skip(parts, count, 0);
	while (count) {
		ssize_t got = preadv(fd, parts, (int)count, at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (!got)
			return -ESTALE;
		at += got;
		count = skip(parts, count, (size_t)got);
	}
	return 0;
}
