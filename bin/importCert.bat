@echo off
rem Import certificates that Keypost's mail connections shall trust.
py -3 "%~dp0importCert" %*
exit /b %ERRORLEVEL%
