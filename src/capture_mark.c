/*-------------------------------------------------------------------------
 *
 * capture_mark.c
 *	  Marks in shared memory of what could not be captured.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "capture_mark.h"

#include <unistd.h>

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "compat.h"
#include "iterable_sync.h"

#define TRANCHE_NAME "IterableCaptureMark"
#define MARKS_FILE PGSTAT_STAT_PERMANENT_DIRECTORY "/iterable_sync.marks"
#define FILE_MAGIC 0x49534d32

/* With more sources than that, all of the database are marked. */
#define MARKS_PER_DATABASE 16

typedef struct MarkShared
{
	LWLock		lock;
	pg_uuid_t	memory;
	int			nmarks;
	IsCaptureMark marks[FLEXIBLE_ARRAY_MEMBER]; /* max_marks() */
} MarkShared;

static MarkShared *shared = NULL;

static int
max_marks(void)
{
	return is_max_databases * MARKS_PER_DATABASE;
}

Size
is_capture_mark_shmem_size(void)
{
	return MAXALIGN(add_size(offsetof(MarkShared, marks),
							 mul_size(max_marks(), sizeof(IsCaptureMark))));
}

/* ----------------------------------------------------------------
 * From one start of the server to the next
 *
 * What is in the file is true only if nothing has happened since it was
 * written, so it goes before anything can happen.
 * ----------------------------------------------------------------
 */

static bool
read_file(FILE *file)
{
	uint32		magic;
	int32		n;

	if (fread(&magic, sizeof(magic), 1, file) != 1 || magic != FILE_MAGIC ||
		fread(&shared->memory, sizeof(shared->memory), 1, file) != 1 ||
		fread(&n, sizeof(n), 1, file) != 1 || n < 0 || n > max_marks() ||
		fread(shared->marks, sizeof(IsCaptureMark), n, file) != (size_t) n ||
		getc(file) != EOF)
		return false;
	shared->nmarks = n;
	return true;
}

static void
load(void)
{
	FILE	   *file = AllocateFile(MARKS_FILE, PG_BINARY_R);
	bool		loaded = false;

	if (file != NULL)
	{
		loaded = read_file(file);
		FreeFile(file);
		if (durable_unlink(MARKS_FILE, LOG) != 0)
			loaded = false;
	}
	else if (errno != ENOENT)
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not read file \"%s\": %m", MARKS_FILE)));
	if (loaded)
		return;

	memset(shared->marks, 0, max_marks() * sizeof(IsCaptureMark));
	shared->nmarks = 0;
	if (!pg_strong_random(&shared->memory, sizeof(shared->memory)))
		ereport(FATAL,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
}

/* An immediate stop ends with code 0 as well, but not with a checkpoint. */
static bool
stopped_cleanly(void)
{
	bool		crc_ok;
	ControlFileData *control = get_controlfile(DataDir, &crc_ok);

	return crc_ok && (control->state == DB_SHUTDOWNED ||
					  control->state == DB_SHUTDOWNED_IN_RECOVERY);
}

static void
save(int code, Datum arg)
{
	FILE	   *file;
	uint32		magic = FILE_MAGIC;
	int32		n = 0;
	bool		written;

	if (code != 0 || shared == NULL || !stopped_cleanly())
		return;

	/* nobody else is there any more */
	for (int i = 0; i < max_marks(); i++)
		if (OidIsValid(shared->marks[i].database))
			shared->marks[n++] = shared->marks[i];

	file = AllocateFile(MARKS_FILE ".tmp", PG_BINARY_W);
	written = file != NULL &&
		fwrite(&magic, sizeof(magic), 1, file) == 1 &&
		fwrite(&shared->memory, sizeof(shared->memory), 1, file) == 1 &&
		fwrite(&n, sizeof(n), 1, file) == 1 &&
		fwrite(shared->marks, sizeof(IsCaptureMark), n, file) == (size_t) n;
	if (file != NULL && FreeFile(file) != 0)
		written = false;
	if (!written)
	{
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", MARKS_FILE ".tmp")));
		(void) unlink(MARKS_FILE ".tmp");
		return;
	}
	(void) durable_rename(MARKS_FILE ".tmp", MARKS_FILE, LOG);
}

void
is_capture_mark_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("iterable_sync capture marks",
							 is_capture_mark_shmem_size(), &found);
	if (!found)
	{
		memset(shared, 0, is_capture_mark_shmem_size());
		LWLockInitialize(&shared->lock, is_new_tranche(TRANCHE_NAME));
		load();
	}
	is_name_tranche(shared->lock.tranche, TRANCHE_NAME);

	/* not one of its children, which leave this memory behind */
	if (!IsUnderPostmaster)
		on_shmem_exit(save, (Datum) 0);
}

pg_uuid_t
is_capture_mark_memory(void)
{
	pg_uuid_t	memory;

	LWLockAcquire(&shared->lock, LW_SHARED);
	memory = shared->memory;
	LWLockRelease(&shared->lock);
	return memory;
}

/* ----------------------------------------------------------------
 * Marks; where it is said, the caller holds the lock exclusively
 * ----------------------------------------------------------------
 */

static void
merge(IsCaptureMark *mark, TimestampTz since, bool committed, TransactionId prepared)
{
	mark->changes++;
	mark->since = Min(mark->since, since);
	mark->committed |= committed;
	if (TransactionIdIsValid(prepared) &&
		(!TransactionIdIsValid(mark->prepared) ||
		 TransactionIdFollows(prepared, mark->prepared)))
		mark->prepared = prepared;
}

/* With the lock. */
static void
free_mark(IsCaptureMark *mark)
{
	mark->database = InvalidOid;
	shared->nmarks--;
}

/*
 * With the lock: the mark of a source, or of all, which takes the place of the
 * others when they are too many.  NULL: there is no room at all.
 */
static IsCaptureMark *
find_or_make(int32 source_id)
{
	IsCaptureMark *unused = NULL;
	IsCaptureMark *mark;
	int			n = 0;

	for (int i = 0; i < max_marks(); i++)
	{
		mark = &shared->marks[i];
		if (mark->database == MyDatabaseId)
		{
			if (mark->source_id == IS_PERMIT)
				continue;
			if (mark->source_id == source_id || mark->source_id == IS_ALL_SOURCES)
				return mark;
			n++;
		}
		else if (unused == NULL && !OidIsValid(mark->database))
			unused = mark;
	}

	if (n > 0 && (unused == NULL || n >= MARKS_PER_DATABASE - 1 ||
				  source_id == IS_ALL_SOURCES))
	{
		IsCaptureMark all = {.source_id = IS_ALL_SOURCES, .since = DT_NOEND};

		for (int i = 0; i < max_marks(); i++)
		{
			mark = &shared->marks[i];
			if (mark->database != MyDatabaseId || mark->source_id == IS_PERMIT)
				continue;
			merge(&all, mark->since, mark->committed, mark->prepared);
			free_mark(mark);
			unused = mark;
		}
		*unused = all;
	}
	else if (unused != NULL)
		*unused = (IsCaptureMark) {.source_id = source_id, .since = DT_NOEND};
	if (unused == NULL)
		return NULL;
	unused->database = MyDatabaseId;
	shared->nmarks++;
	return unused;
}

void
is_capture_mark_set(int32 source_id, TransactionId prepared)
{
	IsCaptureMark *mark;

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	mark = find_or_make(source_id);
	if (mark != NULL)
		merge(mark, GetCurrentTransactionStartTimestamp(),
			  !TransactionIdIsValid(prepared), prepared);
	else
		shared->memory.data[0]++;
	LWLockRelease(&shared->lock);
}

/* With the lock: the permit of this database, or an unused place, or neither. */
static IsCaptureMark *
find_permit(void)
{
	IsCaptureMark *unused = NULL;

	for (int i = 0; i < max_marks(); i++)
	{
		IsCaptureMark *mark = &shared->marks[i];

		if (mark->database == MyDatabaseId && mark->source_id == IS_PERMIT)
			return mark;
		if (!OidIsValid(mark->database))
			unused = mark;
	}
	return unused;
}

void
is_capture_mark_permit(void)
{
	IsCaptureMark *mark;

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	mark = find_permit();
	if (mark != NULL && !OidIsValid(mark->database))
	{
		*mark = (IsCaptureMark) {.database = MyDatabaseId, .source_id = IS_PERMIT};
		shared->nmarks++;
	}
	LWLockRelease(&shared->lock);
}

bool
is_capture_mark_permitted(void)
{
	IsCaptureMark *mark;
	bool		permitted;

	LWLockAcquire(&shared->lock, LW_SHARED);
	mark = find_permit();
	permitted = mark != NULL && OidIsValid(mark->database);
	LWLockRelease(&shared->lock);
	return permitted;
}

void
is_capture_mark_forget(Oid database)
{
	if (shared == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < max_marks(); i++)
		if (shared->marks[i].database == database)
			free_mark(&shared->marks[i]);
	LWLockRelease(&shared->lock);
}

IsCaptureMark *
is_capture_mark_list(int *n)
{
	IsCaptureMark *result = NULL;

	*n = 0;

	/* A mark that is being set bumps the generation of the database after it. */
	if (shared->nmarks == 0)
		return NULL;

	result = palloc_array(IsCaptureMark, MARKS_PER_DATABASE);
	LWLockAcquire(&shared->lock, LW_SHARED);
	for (int i = 0; i < max_marks(); i++)
		if (shared->marks[i].database == MyDatabaseId &&
			shared->marks[i].source_id != IS_PERMIT)
			result[(*n)++] = shared->marks[i];
	LWLockRelease(&shared->lock);
	return result;
}

void
is_capture_mark_clear(const IsCaptureMark *mark, bool prepared)
{
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < max_marks(); i++)
	{
		IsCaptureMark *now = &shared->marks[i];

		if (now->database != mark->database || now->source_id != mark->source_id ||
			now->changes != mark->changes)
			continue;
		now->committed = false;
		if (prepared)
			now->prepared = InvalidTransactionId;
		if (!TransactionIdIsValid(now->prepared))
			free_mark(now);
	}
	LWLockRelease(&shared->lock);
}
