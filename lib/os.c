/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See os.h.  Each function is one idea over one or two calls of the system. */
#define _GNU_SOURCE
#include "os.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

enum { CACHE_LINE_BYTES = 64 };

/* Of the system's, which any mapping is aligned to: 4 to 64 KiB. */
static size_t page_bytes(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static void *map_anywhere(size_t bytes)
{
	void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return base == MAP_FAILED ? NULL : base;
}

/* Keeps errno. */
static void unmap_quietly(void *base, size_t bytes)
{
	int saved = errno;

	munmap(base, bytes);
	errno = saved;
}

/*
 * Cuts what stands out over [aligned, aligned + bytes); or, when a cut fails,
 * unmaps the rest, but never again what was cut: that may be somebody else's
 * by now.
 */
static bool cut_ends(char *base, size_t mapped, char *aligned, size_t bytes)
{
	size_t head = (size_t)(aligned - base);
	size_t tail = mapped - head - bytes;

	if (head && munmap(base, head)) {
		unmap_quietly(base, mapped);
		return false;
	}
	if (tail && munmap(aligned + bytes, tail)) {
		unmap_quietly(aligned, bytes + tail);
		return false;
	}
	return true;
}

void *os_map(size_t bytes, size_t align)
{
	size_t page = page_bytes();
	size_t whole = (bytes + page - 1) & ~(page - 1);
	size_t larger = whole + (align > page ? align : 0);
	char *base = map_anywhere(larger);
	char *aligned = (char *)(((uintptr_t)base + align - 1) & ~(align - 1));

	if (!base || larger == whole)
		return base;
	return cut_ends(base, larger, aligned, whole) ? aligned : NULL;
}

int os_unmap(void *base, size_t bytes)
{
	int saved = errno;
	int ret = munmap(base, bytes) ? -errno : 0;

	errno = saved;
	return ret;
}

static int advise(void *base, size_t bytes, int advice)
{
	int saved = errno;
	int ret = madvise(base, bytes, advice) ? -errno : 0;

	errno = saved;
	return ret;
}

/* The kernel rounds the end up, to what is not ours to discard. */
int os_discard(void *base, size_t bytes)
{
	if (bytes & (page_bytes() - 1))
		return -EINVAL;
	return advise(base, bytes, MADV_DONTNEED);
}

/* A kernel that has no larger pages does not know the advice. */
int os_use_small_pages(void *base, size_t bytes)
{
	int ret = advise(base, bytes, MADV_NOHUGEPAGE);

	return ret == -EINVAL ? 0 : ret;
}

int os_use_huge_pages(void *base, size_t bytes)
{
	int ret = advise(base, bytes, MADV_HUGEPAGE);

	return ret == -EINVAL ? 0 : ret;
}

/* The kernel calls a part of a huge page cold by splitting the whole; since
 * Linux 5.4. */
int os_split_huge_page(void *page)
{
	return advise(page, page_bytes(), MADV_COLD);
}

/* Since Linux 5.14. */
int os_back(void *base, size_t bytes)
{
	return advise(base, bytes, MADV_POPULATE_WRITE);
}

enum { SMALL_PAGE_BYTES = 4096, HUGE_PAGE_BYTES = 2 * 1024 * 1024 };

void *os_calloc(size_t count, size_t bytes)
{
	size_t whole = (count * bytes + CACHE_LINE_BYTES - 1) &
		       ~(size_t)(CACHE_LINE_BYTES - 1);
	/* Large tables are read at random: fewer TLB misses, if there are huge
	 * pages to be had. */
	bool huge = whole > HUGE_PAGE_BYTES - SMALL_PAGE_BYTES;
	int saved = errno;
	void *memory = NULL;
	int ret = posix_memalign(&memory, huge ? HUGE_PAGE_BYTES :
						 CACHE_LINE_BYTES, whole);

	if (!ret && huge)
		(void)madvise(memory, whole, MADV_HUGEPAGE);
	errno = saved;
	return ret ? NULL : memset(memory, 0, whole);
}

void *os_realloc(void *memory, size_t bytes)
{
	int saved = errno;
	void *larger = realloc(memory, bytes);

	errno = saved;
	return larger;
}

void os_free(void *memory)
{
	free(memory);
}

uint64_t os_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void futex(struct atomic_u32 *word, int op, uint32_t value,
		  const struct timespec *timeout)
{
	int saved = errno;

	syscall(SYS_futex, &word->value, op, value, timeout, NULL, 0);
	errno = saved;
}

void os_futex_wait(struct atomic_u32 *word, uint32_t expected,
		   uint64_t timeout_ns)
{
	struct timespec timeout = {
		.tv_sec = (time_t)(timeout_ns / 1000000000u),
		.tv_nsec = (long)(timeout_ns % 1000000000u),
	};

	futex(word, FUTEX_WAIT_PRIVATE, expected,
	      timeout_ns == OS_FOREVER ? NULL : &timeout);
}

void os_futex_wake_all(struct atomic_u32 *word)
{
	futex(word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL);
}

static int membarrier(int command)
{
	int saved = errno;
	int ret = syscall(SYS_membarrier, command, 0, 0) ? -errno : 0;

	errno = saved;
	return ret;
}

int os_membarrier_register(void)
{
	return membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
}

int os_membarrier(void)
{
	return membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
}

void os_yield(void)
{
	sched_yield();
}

int os_thread_start(pthread_t *ret_thread, void *(*main)(void *), void *arg)
{
	sigset_t all, before;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(ret_thread, NULL, main, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!error)
		pthread_setname_np(*ret_thread, "libseg");
	return -error;
}

void os_thread_join(pthread_t thread)
{
	int before;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
	pthread_join(thread, NULL);
	pthread_setcancelstate(before, &before);
}
