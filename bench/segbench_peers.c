/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The peers.  Those that replace malloc are preloaded by the driver: some of
 * them can't be loaded later.  What is checked here is that it really happened.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "segbench_work.h"

struct peer *peer;
uint64_t limit_bytes = UINT64_C(8) << 30;

/* ------------------------------------------------------------------ libseg */

static struct seg_budget *budget;

static void libseg_purge(void)
{
	seg_pool_trim(peer->pool, NULL);
}

/* All options as they are by default, but the limit and the variant's. */
static void libseg_start(void)
{
	struct seg_budget_options limit = {
		.size = sizeof(limit), .limit_bytes = limit_bytes
	};
	struct seg_pool_options options = {
		.size = sizeof(options), .huge_pages = peer->huge_pages,
		.ahead = peer->ahead,
	};

	if (seg_budget_create(&limit, &budget))
		die("seg_budget_create");
	options.budget = budget;
	if (seg_pool_create(&options, &peer->pool))
		die("seg_pool_create");
}

double most_charged_bytes(void)
{
	struct seg_budget_stats stats = { .size = sizeof(stats) };

	if (seg_budget_stats(budget, &stats))
		die("seg_budget_stats");
	return (double)stats.peak_charged_bytes;
}

/* ------------------------------------------------------- preloaded mallocs */

static void *symbol(const char *name)
{
	return dlsym(RTLD_DEFAULT, name);
}

static void check_preloaded(void)
{
	if (peer->symbol && !symbol(peer->symbol)) {
		errno = ENOENT;
		die("the library is not preloaded");
	}
}

static void glibc_purge(void)
{
	malloc_trim(0);
}

/* An empty process: whoever else is preloaded is not glibc. */
static void glibc_start(void)
{
	Dl_info at;

	if (!dladdr((void *)(uintptr_t)malloc, &at) ||
	    !strstr(at.dli_fname, "libc.so")) {
		errno = EBUSY;
		die("malloc is not glibc's");
	}
}

static void mimalloc_purge(void)
{
	void (*collect)(bool force);

	*(void **)&collect = symbol("mi_collect");
	collect(true);
}

/* The caches of this thread, then all arenas: 4096 stands for these. */
static void jemalloc_purge(void)
{
	int (*control)(const char *name, void *old, size_t *old_bytes,
		       void *new, size_t new_bytes);

	*(void **)&control = symbol("mallctl");
	control("thread.tcache.flush", NULL, NULL, NULL, 0);
	if (control("arena.4096.purge", NULL, NULL, NULL, 0))
		die("arena.4096.purge");
}

static void tcmalloc_purge(void)
{
	void (*release)(void);

	*(void **)&release = symbol("MallocExtension_ReleaseFreeMemory");
	release();
}

/* 0: the buffers of all threads. */
static void tbbmalloc_purge(void)
{
	int (*command)(int which, void *reserved);

	*(void **)&command = symbol("scalable_allocation_command");
	command(0, NULL);
}

/* ------------------------------------------------------------------- naive */

static void *mmap_get(size_t bytes)
{
	void *segment = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return segment == MAP_FAILED ? NULL : segment;
}

static void mmap_put(void *segment, size_t bytes)
{
	munmap(segment, bytes);
}

/* One segment for each thread, again and again: what the loops cost. */
static __thread char *floor_segment;

static void *floor_get(size_t bytes)
{
	(void)bytes;
	if (!floor_segment)
		floor_segment = carve(SEG_CLASSES - 1);
	return floor_segment;
}

static void floor_put(void *segment, size_t bytes)
{
	(void)segment;
	(void)bytes;
}

#define MALLOC .calls = CALLS_MALLOC, .get = malloc, .put = free
#define SIZED(name)                                                            \
	.calls = CALLS_SIZED, .get = name##_get, .put_sized = name##_put
#define LIBSEG                                                                 \
	.calls = CALLS_POOL, .start = libseg_start, .pool_get = seg_alloc,     \
	.pool_put = seg_release, .purge = libseg_purge
static struct peer peers[] = {
	{ "libseg", LIBSEG },
	{ "libseg-small", LIBSEG, .huge_pages = SEG_HUGE_PAGES_NEVER },
	{ "libseg-map", LIBSEG, .ahead = SEG_AHEAD_MAP },
	{ "libseg-back", LIBSEG, .ahead = SEG_AHEAD_BACK },
	{ "libseg-small-back", LIBSEG, .huge_pages = SEG_HUGE_PAGES_NEVER,
	  .ahead = SEG_AHEAD_BACK },
	{ "glibc", MALLOC, .purge = glibc_purge, .start = glibc_start },
	{ "mimalloc", MALLOC, .purge = mimalloc_purge,
	  .start = check_preloaded, .symbol = "mi_collect" },
	{ "jemalloc", MALLOC, .purge = jemalloc_purge,
	  .start = check_preloaded, .symbol = "mallctl" },
	{ "tcmalloc", MALLOC, .purge = tcmalloc_purge,
	  .start = check_preloaded,
	  .symbol = "MallocExtension_ReleaseFreeMemory" },
	{ "tbbmalloc", MALLOC, .purge = tbbmalloc_purge,
	  .start = check_preloaded, .symbol = "scalable_allocation_command" },
	{ "other", MALLOC },
	{ "magazine", SIZED(magazine), .start = magazine_start },
	{ "mutex", SIZED(mutex) },
	{ "ckstack", SIZED(ckstack) },
	{ "mmap", SIZED(mmap) },
	{ "floor", SIZED(floor) },
};

struct peer *find_peer(const char *name)
{
	for (size_t i = 0; i < sizeof(peers) / sizeof(*peers); i++)
		if (!strcmp(peers[i].name, name))
			return &peers[i];
	return NULL;
}

char *peer_get(size_t bytes)
{
	return get(peer, peer->calls, bytes);
}

void peer_put(void *segment, size_t bytes)
{
	put(peer, peer->calls, segment, bytes);
}
