# Copyright (c) 2026, the iterable_sync developers

# What was sent and what has become of it, loaded beside the tables, and the
# questions of oracle.sql.

package Oracle;

use strict;
use warnings;

use HTTP::Tiny;
use JSON::PP ();
use Test::More;

use PostgreSQL::Test::Utils ();

sub new
{
	my ($class, $node, $emulator) = @_;

	return bless { node => $node, emulator => $emulator, read => 0,
		directory => PostgreSQL::Test::Utils::tempdir() }, $class;
}

sub sql
{
	my ($self, $sql) = @_;

	return $self->{node}->safe_psql('postgres', $sql);
}

sub set_up
{
	my ($self, $directory) = @_;

	$self->sql(PostgreSQL::Test::Utils::slurp_file("$directory/oracle.sql"));
	$self->{checks} = [ split /\n/, $self->sql(q{SELECT relname FROM pg_class
		WHERE relnamespace = 'model'::regnamespace AND relkind = 'v' AND relname LIKE '% %' ORDER BY oid}) ];
	return;
}

# Lines of the emulator, a JSON document each, as a table "line (doc jsonb)".
sub fetch
{
	my ($self, $what) = @_;
	my $file = "$self->{directory}/lines";
	my $answer;

	unlink $file;
	$answer = HTTP::Tiny->new(timeout => 60)->mirror($self->{emulator}->url . "/control/$what", $file);
	die "$what: $answer->{status}" if !$answer->{success};
	return "CREATE TEMPORARY TABLE line (doc jsonb);
		COPY line FROM '$file' WITH (FORMAT csv, QUOTE e'\\x01', DELIMITER e'\\x02');";
}

# When a run has begun anew after an error of ours (a lock, most likely).
sub errors_in_log
{
	my ($self) = @_;
	my @lines = PostgreSQL::Test::Utils::slurp_file($self->{node}->logfile) =~
	  /^(\S+ \S+) UTC \[.* (?:sync "\w+" is (?:failing|paused)|STATEMENT:  CALL )/mg;

	return map { "(extract(epoch FROM timestamptz '$_+00'), extract(epoch FROM timestamptz '$_+00'))" } @lines;
}

sub load
{
	my ($self, $sent_rows, @interruptions) = @_;
	my @times = ((map { "($_->[0], $_->[1])" } @interruptions), $self->errors_in_log);

	$self->sql('TRUNCATE model.interruption;'
		. (@times ? 'INSERT INTO model.interruption VALUES ' . join(',', @times) : '')
		. ';TRUNCATE model.sent_row;'
		. (@$sent_rows ? 'INSERT INTO model.sent_row VALUES ' . join(',', map { "($_->[0], $_->[1], '$_->[2]', $_->[3], '$_->[4]', '$_->[5]')" } @$sent_rows) : ''));
	$self->sql($self->fetch("requests?since=$self->{read}") . q{
		INSERT INTO model.request
		SELECT (doc ->> 'n')::bigint, (doc ->> 'at')::float8, (doc ->> 'at')::float8 + (doc ->> 'ms')::float8 / 1000,
			doc ->> 'path' LIKE '%/events/%', (doc ->> 'status')::int, doc ->> 'action', (doc ->> 'rows')::int,
			(doc ->> 'accepted')::int, doc ->> 'body'
		FROM line;
		SELECT model.understand(} . $self->{read} . ')');
	$self->{read} = $self->sql('SELECT coalesce(max(n), 0) FROM model.request');
	$self->sql('TRUNCATE model.there');
	foreach my $what (qw(users events))
	{
		$self->sql($self->fetch($what) . "INSERT INTO model.there SELECT '$what' = 'events', doc FROM line");
	}
	$self->sql('ANALYZE');
	return;
}

# What the first row that a check has found went through last, up to then where
# the check tells when that was.
sub story_of
{
	my ($self, $check) = @_;

	return $self->sql(qq{WITH x AS (SELECT to_jsonb(x) AS doc FROM model."$check" x LIMIT 1),
			story AS (
				SELECT to_timestamp(s.at) AS at, 'sent' AS what, source, id,
					to_jsonb(s) || to_jsonb(q) - 'body' AS doc FROM model.sent s JOIN model.request q USING (n)
				UNION ALL SELECT to_timestamp(since), 'by hand', source, id, to_jsonb(r) FROM model.sent_row r
				UNION ALL SELECT at, 'changed', source, id, to_jsonb(h) FROM model.history h
				UNION ALL SELECT to_timestamp(since), 'interrupted', NULL, NULL, to_jsonb(i) FROM model.interruption i)
		SELECT y.at, what, y.doc FROM x, LATERAL (SELECT * FROM story
			WHERE (id IS NULL OR (source, id) = (x.doc ->> 'source', (x.doc ->> 'id')::int))
				AND (jsonb_typeof(x.doc -> 'at') <> 'number' OR at <= to_timestamp((x.doc ->> 'at')::float8)) IS NOT FALSE ORDER BY at DESC LIMIT 25) y ORDER BY 1});
}

# A test each; returns whether all are well.  Rows that were sent by hand as
# Workload has them; interruptions: [ since, until ], …
sub check
{
	my ($self, $round, $sent_rows, @interruptions) = @_;
	my $well = 1;

	$self->load($sent_rows, @interruptions);
	foreach my $check (@{ $self->{checks} })
	{
		my $found = $self->sql(qq{SELECT count(*) FROM model."$check"});

		next if is($found, '0', "$round: not $check");
		diag($self->sql(qq{SELECT row_to_json(x) FROM model."$check" x LIMIT 5}));
		diag($self->story_of($check));
		$well = 0;
	}
	return $well;
}

sub summary
{
	my ($self) = @_;

	return $self->sql(q{SELECT format('%s transactions changed rows, %s requests (%s without an answer or refused) with %s rows, %s of them sent twice, %s in open windows; %s versions; %s rows sent by hand (%s)',
		(SELECT count(DISTINCT xid) FROM model.history), (SELECT count(*) FROM model.request),
		(SELECT count(*) FROM model.request WHERE status IS DISTINCT FROM 200), (SELECT count(*) FROM model.sent),
		(SELECT count(*) FROM model.follows WHERE ver = ver1), (SELECT count(*) FROM model.follows WHERE ver = ver1 AND taken1),
		(SELECT count(*) FROM model.version), (SELECT count(*) FROM model.sent_row),
		(SELECT string_agg(n || ' ' || verdict, ', ' ORDER BY verdict) FROM (SELECT verdict, count(*) AS n FROM model.sent_row GROUP BY verdict) v))});
}

1;
