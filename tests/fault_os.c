/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See fault_os.h.  Linked in place of lib/os.c. */
#define _GNU_SOURCE
#include "fault_os.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "os.h"

#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

enum { PAGE_BYTES = 4096 };

static struct {
	pthread_mutex_t lock;
	enum fault_kind kind;
	uint64_t calls;			/* of that kind, since it was armed */
	uint64_t first, end;		/* these calls fail */
	uint64_t failed;
	uint64_t mapped_bytes, blocks, threads;
	_Atomic(void *) place;		/* of regions; NULL: anywhere */
} fault = { .lock = PTHREAD_MUTEX_INITIALIZER };

void fault_arm(enum fault_kind kind, uint64_t first, uint64_t calls)
{
	pthread_mutex_lock(&fault.lock);
	fault.kind = kind;
	fault.calls = fault.failed = 0;
	fault.first = first;
	fault.end = calls > UINT64_MAX - first ? UINT64_MAX : first + calls;
	pthread_mutex_unlock(&fault.lock);
}

uint64_t fault_disarm(void)
{
	uint64_t failed;

	pthread_mutex_lock(&fault.lock);
	failed = fault.failed;
	fault.first = fault.end = 0;
	pthread_mutex_unlock(&fault.lock);
	return failed;
}

static bool fails(enum fault_kind kind)
{
	bool now = false;

	pthread_mutex_lock(&fault.lock);
	if (kind == fault.kind) {
		fault.calls++;
		now = fault.calls >= fault.first && fault.calls < fault.end;
		fault.failed += now;
	}
	pthread_mutex_unlock(&fault.lock);
	return now;
}

static uint64_t look(const uint64_t *figure)
{
	uint64_t value;

	pthread_mutex_lock(&fault.lock);
	value = *figure;
	pthread_mutex_unlock(&fault.lock);
	return value;
}

static void change(uint64_t *figure, int64_t by)
{
	pthread_mutex_lock(&fault.lock);
	*figure += (uint64_t)by;
	pthread_mutex_unlock(&fault.lock);
}

uint64_t fault_mapped_bytes(void)
{
	return look(&fault.mapped_bytes);
}

uint64_t fault_blocks(void)
{
	return look(&fault.blocks);
}

uint64_t fault_threads(void)
{
	return look(&fault.threads);
}

/* Always maps more and cuts, so that nothing is aligned by chance. */
static void *map_aligned(size_t bytes, size_t align)
{
	size_t more = bytes + align;
	char *base = mmap(NULL, more, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t head;

	if (base == MAP_FAILED)
		return NULL;
	head = -(uintptr_t)base & (align - 1);
	if (head)
		munmap(base, head);
	munmap(base + head + bytes, more - head - bytes);
	return base + head;
}

static size_t whole_pages(size_t bytes)
{
	return (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

void fault_place_regions(void *place)
{
	atomic_store(&fault.place, place);
}

static void *map_at(void *place, size_t bytes, int access)
{
	void *base = mmap(place, bytes, access,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	return base == MAP_FAILED ? NULL : base;
}

static void *map_somewhere(size_t bytes, size_t align)
{
	void *place = atomic_load(&fault.place);

	if (place && align > PAGE_BYTES)
		return map_at(place, bytes, PROT_READ | PROT_WRITE);
	return map_aligned(bytes, align > PAGE_BYTES ? align : PAGE_BYTES);
}

static int unmap(void *base, size_t bytes)
{
	if (base == atomic_load(&fault.place))
		return map_at(base, bytes, PROT_NONE) ? 0 : -errno;
	return munmap(base, bytes) ? -errno : 0;
}

void *os_map(size_t bytes, size_t align)
{
	void *base;

	if (fails(FAULT_MAP)) {
		errno = ENOMEM;
		return NULL;
	}
	base = map_somewhere(whole_pages(bytes), align);
	if (base)
		change(&fault.mapped_bytes, (int64_t)bytes);
	return base;
}

int os_unmap(void *base, size_t bytes)
{
	int saved = errno;
	int ret;

	if (fails(FAULT_UNMAP))
		return -ENOMEM;
	ret = unmap(base, bytes);
	errno = saved;
	if (!ret)
		change(&fault.mapped_bytes, -(int64_t)bytes);
	return ret;
}

static int advise(void *base, size_t bytes, int advice)
{
	int saved = errno;
	int ret = 0;

	if (fails(FAULT_ADVISE))
		return -ENOMEM;
	if (madvise(base, bytes, advice))
		ret = -errno;
	errno = saved;
	return ret;
}

int os_discard(void *base, size_t bytes)
{
	return advise(base, bytes, MADV_DONTNEED);
}

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

int os_split_huge_page(void *page)
{
	return advise(page, PAGE_BYTES, MADV_COLD);
}

int os_back(void *base, size_t bytes)
{
	return advise(base, bytes, MADV_POPULATE_WRITE);
}

void *os_calloc(size_t count, size_t bytes)
{
	size_t whole = (count * bytes + 63) / 64 * 64;
	void *memory = fails(FAULT_CALLOC) ? NULL : aligned_alloc(64, whole);

	if (!memory)
		return NULL;
	change(&fault.blocks, 1);
	return memset(memory, 0, whole);
}

void *os_realloc(void *memory, size_t bytes)
{
	void *larger;

	if (fails(FAULT_REALLOC))
		return NULL;
	larger = realloc(memory, bytes);
	if (larger && !memory)
		change(&fault.blocks, 1);
	return larger;
}

void os_free(void *memory)
{
	if (memory)
		change(&fault.blocks, -1);
	free(memory);
}

uint64_t os_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void os_futex_wait(struct atomic_u32 *word, uint32_t expected,
		   uint64_t timeout_ns)
{
	struct timespec timeout = {
		.tv_sec = (time_t)(timeout_ns / 1000000000u),
		.tv_nsec = (long)(timeout_ns % 1000000000u),
	};

	syscall(SYS_futex, &word->value, FUTEX_WAIT_PRIVATE, expected,
		timeout_ns == OS_FOREVER ? NULL : &timeout, NULL, 0);
}

void os_futex_wake_all(struct atomic_u32 *word)
{
	syscall(SYS_futex, &word->value, FUTEX_WAKE_PRIVATE, INT_MAX, NULL,
		NULL, 0);
}

static int membarrier(int command)
{
	int saved = errno;
	int ret;

	if (fails(FAULT_MEMBARRIER))
		return -EPERM;
	ret = syscall(SYS_membarrier, command, 0, 0) ? -errno : 0;
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
	int error = EAGAIN;

	if (!fails(FAULT_THREAD))
		error = pthread_create(ret_thread, NULL, main, arg);
	if (!error)
		change(&fault.threads, 1);
	return -error;
}

void os_thread_join(pthread_t thread)
{
	pthread_join(thread, NULL);
	change(&fault.threads, -1);
}
